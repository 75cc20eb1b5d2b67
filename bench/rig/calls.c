/* Makes blocks of system calls for ever and notes for each block what it was of, when it began and ended
 * (CLOCK_MONOTONIC, ns), and how long one call took. */
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 100000 };

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void)
{
	int ends[2];
	char byte = 0;

	if (pipe(ends))
		return 1;
	for (;;) {
		for (int kind = 0; kind < 2; kind++) {
			/* What cannot bring anything, and what brings a byte by a pipe (two calls: it is put there first). */
			long long begun = now();
			for (int n = 0; n < CALLS; n++) {
				if (!kind)
					syscall(SYS_getppid);
				else if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
					return 1;
			}
			long long ended = now();
			printf("%s %lld %lld %.2f\n", kind ? "pipe" : "getppid", begun, ended,
			       (double)(ended - begun) / CALLS);
			fflush(stdout);
		}
	}
}
