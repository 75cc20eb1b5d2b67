// A heap of the JVM (G1): a HashMap of records with lists of lines.
// java -Xms512m -Xmx768m Records.java --mb 200 --ready FILE [--seed 1] [--seconds 60] [--rate 2000]
import java.nio.file.*;
import java.util.*;

public class Records {
    record Line(int article, int pieces, double price) {}

    static class Order {
        long number;
        String note;
        double total;
        int state;
        List<Line> lines = new ArrayList<>();
        byte[] signature = new byte[16];
    }

    static final String[] WORDS =
            "anchor basin cedar dune ember fjord grove haven inlet jetty knoll lagoon meadow".split(" ");

    static Order order(Random random, long number) {
        Order order = new Order();
        order.number = number;
        StringBuilder note = new StringBuilder();
        for (int words = 3 + random.nextInt(12); words > 0; words--) {
            note.append(WORDS[random.nextInt(WORDS.length)]).append(' ');
        }
        order.note = note.toString();
        order.state = random.nextInt(5);
        random.nextBytes(order.signature);
        for (int lines = 1 + random.nextInt(5); lines > 0; lines--) {
            Line line = new Line(random.nextInt(5000), random.nextInt(20), random.nextInt(50000) / 100.0);
            order.lines.add(line);
            order.total += line.pieces() * line.price();
        }
        return order;
    }

    static String option(String[] given, String name, String otherwise) {
        int at = Arrays.asList(given).indexOf("--" + name);
        return at < 0 ? otherwise : given[at + 1];
    }

    public static void main(String[] given) throws Exception {
        long seconds = Long.parseLong(option(given, "seconds", "60"));
        int rate = Integer.parseInt(option(given, "rate", "2000"));
        Random random = new Random(Long.parseLong(option(given, "seed", "1")));
        int count = (int) (Integer.parseInt(option(given, "mb", "200")) * 1_000_000L / 440);
        HashMap<String, Order> orders = new HashMap<>();
        for (int n = 0; n < count; n++) orders.put("order-" + n, order(random, n));
        for (int n = 0; n < count; n += 9) orders.remove("order-" + n);
        Path ready = Path.of(option(given, "ready", ""));
        Path fresh = Path.of(ready + ".new");
        Files.writeString(fresh, ProcessHandle.current().pid() + "\n");
        Files.move(fresh, ready, StandardCopyOption.ATOMIC_MOVE);
        long begun = System.nanoTime(), done = 0;
        while (System.nanoTime() - begun < seconds * 1_000_000_000L) {
            for (int batch = 0; batch < rate / 20; batch++, done++) {
                int n = (int) (count * Math.pow(random.nextDouble(), 3));
                Order order = orders.get("order-" + n);
                if (random.nextInt(10) >= 6) {
                    orders.put("order-" + n, order(random, n));
                } else if (order != null) {
                    order.state = random.nextInt(5);
                    order.total += 1;
                }
            }
            long ahead = (long) (done * 1e9 / rate) - (System.nanoTime() - begun);
            if (ahead > 0) Thread.sleep(ahead / 1_000_000);
        }
    }
}
