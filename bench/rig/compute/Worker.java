import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;

/** One thread hands out jobs, two work on them: each sums up a part of a list of orders by customer. */
public final class Worker {
    record Order(int id, int customer, double amount, String note) {}

    static final int ORDERS = 1_500_000;
    static final int PART = 80_000;
    static final int PASSES = 10;
    static volatile double sink;

    public static void main(String[] arguments) throws InterruptedException {
        double drift = Double.parseDouble(arguments[0]);
        Random source = new Random(7);
        List<Order> orders = new ArrayList<>();
        for (int n = 0; n < ORDERS; n++) {
            String note = Integer.toHexString(source.nextInt()) + "-" + n;
            orders.add(new Order(n, source.nextInt(50_000), source.nextDouble(), note));
        }
        BlockingQueue<Integer> jobs = new ArrayBlockingQueue<>(4);
        for (int n = 0; n < 2; n++) {
            Thread worker = new Thread(() -> work(orders, jobs));
            worker.setDaemon(true);
            worker.start();
        }
        for (long turn = 0; ; turn++) {
            jobs.put((int) ((long) (turn * 50 * drift) % (ORDERS - PART)));
        }
    }

    static void work(List<Order> orders, BlockingQueue<Integer> jobs) {
        double[] totals = new double[50_000];
        try {
            while (true) {
                int first = jobs.take();
                long letters = 0;
                for (int pass = 0; pass < PASSES; pass++) {
                    for (int at = first; at < first + PART; at++) {
                        Order order = orders.get(at);
                        totals[order.customer()] += order.amount();
                        letters += order.note().hashCode() & pass;
                    }
                }
                sink = totals[(int) (letters % totals.length & 0xff)];
                System.out.println(System.currentTimeMillis());
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
