/* A heartbeat inside an ordinary program (LD_PRELOAD): a thread that every 0.2 ms touches memory, makes
 * and drops a mapping and calls the kernel, and notes by how much it was late. What a checkpoint
 * does to the program - stopping it, holding the lock of its memory map - is felt here.
 * The notes lie at a fixed address, where the benchmark reads and clears them by /proc/PID/mem. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PLACE ((void *)0x5eadbea70000)
#define STEP_NS 200000

struct notes {
    uint64_t magic;
    uint64_t worst_ns; /* longest time between two beats, the step taken off */
    uint64_t late_ns;  /* the sum of what was late by more than a millisecond */
    uint64_t beats;
    uint64_t worst_at_ns; /* when the longest time ended, CLOCK_MONOTONIC */
};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *beat(void *at) {
    struct notes volatile *notes = at;
    uint64_t before = now();
    for (;;) {
        struct timespec step = {0, STEP_NS};
        nanosleep(&step, NULL);
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page != MAP_FAILED) {
            page[0] = 1;
            munmap(page, 4096);
        }
        syscall(SYS_getppid);
        uint64_t after = now();
        uint64_t took = after - before;
        uint64_t late = took > STEP_NS ? took - STEP_NS : 0;
        if (late > notes->worst_ns) {
            notes->worst_ns = late;
            notes->worst_at_ns = after;
        }
        if (late > 1000000)
            notes->late_ns += late;
        notes->beats++;
        before = after;
    }
    return NULL;
}

__attribute__((constructor)) static void start(void) {
    struct notes *notes = mmap(PLACE, 4096, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (notes != PLACE)
        return;
    notes->magic = 0x7462747261656821u;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t thread;
    pthread_create(&thread, NULL, beat, notes);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}
