// Runs commands in turn and says how long they take, as whole processes.
//
//   measure [-n RUNS] [-a RESET] [-b RESET] A... [-- B...]
//
// RESET is a shell command that is run after each run of A or B, and not
// measured. Each command's output is thrown away; one that fails ends the
// measurement. Printed is one line for each command, of
//
//   median wall time, least wall time, median CPU time (all ms), peak RSS (KiB)
//
// and with two commands a third line: the median of the ratios A/B of wall
// time, run by run. Times are from before fork to after wait.
//
// In C because a process begins with its parent's peak RSS (getrusage(2)).
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct command {
    char **argv;
    const char *reset;
    double *wall, *cpu;
    long rss;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double millis(struct timeval t)
{
    return t.tv_sec * 1e3 + t.tv_usec / 1e3;
}

static void run(struct command *c, int index)
{
    posix_spawn_file_actions_t files;
    struct rusage usage;
    pid_t pid;
    int status, error;

    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    double begin = now();
    if ((error = posix_spawnp(&pid, c->argv[0], &files, NULL, c->argv, environ))) {
        fprintf(stderr, "measure: %s: %s\n", c->argv[0], strerror(error));
        exit(1);
    }
    wait4(pid, &status, 0, &usage);
    double wall = now() - begin;
    posix_spawn_file_actions_destroy(&files);
    if (status) {
        fprintf(stderr, "measure: %s failed with status %#x\n", c->argv[0], status);
        exit(1);
    }
    if (index >= 0) {
        c->wall[index] = wall;
        c->cpu[index] = millis(usage.ru_utime) + millis(usage.ru_stime);
    }
    if (usage.ru_maxrss > c->rss)
        c->rss = usage.ru_maxrss;
    if (c->reset && system(c->reset)) {
        fprintf(stderr, "measure: `%s` failed\n", c->reset);
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Sorts the values.
static double median(double *values, int count)
{
    qsort(values, count, sizeof *values, by_value);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

int main(int argc, char **argv)
{
    struct command commands[2] = {0};
    int runs = 100, count = 1, option;

    while ((option = getopt(argc, argv, "+n:a:b:")) != -1) {
        switch (option) {
        case 'n': runs = atoi(optarg); break;
        case 'a': commands[0].reset = optarg; break;
        case 'b': commands[1].reset = optarg; break;
        default: return 2;
        }
    }
    commands[0].argv = argv + optind;
    for (int i = optind; i < argc; i++) {
        if (!strcmp(argv[i], "--")) {
            argv[i] = NULL;
            commands[1].argv = argv + i + 1;
            count = 2;
            break;
        }
    }
    if (runs < 1 || optind == argc || !commands[count - 1].argv[0]) {
        fprintf(stderr, "usage: measure [-n RUNS] [-a RESET] [-b RESET] A... [-- B...]\n");
        return 2;
    }
    double *ratio = calloc(runs, sizeof *ratio);
    for (int c = 0; c < count; c++) {
        commands[c].wall = calloc(runs, sizeof(double));
        commands[c].cpu = calloc(runs, sizeof(double));
        if (runs > 1)
            run(&commands[c], -1); // what is cold is nobody's fault
    }
    for (int i = 0; i < runs; i++) {
        // First A, then B; next time the other way round.
        for (int c = 0; c < count; c++)
            run(&commands[(i + c) % count], i);
        if (count == 2)
            ratio[i] = commands[0].wall[i] / commands[1].wall[i];
    }
    for (int c = 0; c < count; c++) {
        double middle = median(commands[c].wall, runs);
        printf("%.3f %.3f %.3f %ld\n", middle, commands[c].wall[0],
               median(commands[c].cpu, runs), commands[c].rss);
    }
    if (count == 2)
        printf("%.3f\n", median(ratio, runs));
}
