/* A game as its monitors see it: 20 ticks a second, 20 ms of processor time in each. A tick that is late is left out,
 * as game servers do. */
#include <stdio.h>
#include <time.h>

static long long now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void) {
    const long long tick_ns = 50000000, work_ns = 20000000;
    long long next = now_ns(CLOCK_MONOTONIC);
    puts("ready");
    fflush(stdout);
    for (;;) {
        long long begin = now_ns(CLOCK_THREAD_CPUTIME_ID);
        while (now_ns(CLOCK_THREAD_CPUTIME_ID) - begin < work_ns)
            for (volatile int i = 0; i < 10000; i++) {}
        do next += tick_ns; while (next < now_ns(CLOCK_MONOTONIC));
        struct timespec until = {next / 1000000000, next % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}
