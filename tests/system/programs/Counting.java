import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.TimeUnit;

/** Threads, a scheduler and a hand-over, each of which appends numbered values to a file. */
public final class Counting {
    static final class Sequence {
        private final FileOutputStream file;
        private long count;
        private long value;

        Sequence(String dir, int number) throws IOException {
            file = new FileOutputStream(dir + "/lines-" + number);
        }

        void step() {
            count++;
            value = value * 6364136223846793005L + 1442695040888963407L;
            String line = String.format("%d %016x\n", count, value);
            try {
                file.write(line.getBytes(StandardCharsets.US_ASCII));
            } catch (IOException error) {
                System.err.println(error);
                System.exit(1);
            }
        }
    }

    interface Body {
        void run() throws InterruptedException;
    }

    static void thread(Body body) {
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    body.run();
                }
            } catch (InterruptedException error) {
                System.err.println(error);
                System.exit(1);
            }
        });
        thread.start();
    }

    public static void main(String[] arguments) throws IOException {
        String dir = arguments[0];
        Sequence first = new Sequence(dir, 0);
        thread(() -> {
            Thread.sleep(7);
            first.step();
        });
        SynchronousQueue<byte[]> queue = new SynchronousQueue<>();
        thread(() -> {
            Thread.sleep(11);
            queue.put(new byte[10_000]);
        });
        Sequence second = new Sequence(dir, 1);
        thread(() -> {
            queue.take();
            second.step();
        });
        Sequence third = new Sequence(dir, 2);
        Executors.newScheduledThreadPool(2)
                .scheduleAtFixedRate(third::step, 0, 9, TimeUnit.MILLISECONDS);
        Sequence fourth = new Sequence(dir, 3);
        Object lock = new Object();
        thread(() -> {
            synchronized (lock) {
                lock.wait(8);
            }
            fourth.step();
        });
    }
}
