// The floor that maqet is measured against: what has to be done, and no more.
//
//   floor SOCKET COMMAND                 one QMP command, answer to stdout
//   floor SOCKET COMMAND PROGRAM ARG...  the same, but first starts PROGRAM,
//                                        and waits for the socket to appear
//
// Negotiation and command travel together, before the greeting is read, as
// maqet sends them.
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

// Retried often enough that it does not show in a start of tens of
// milliseconds, and seldom enough to leave the processor to QEMU.
static int connect_to(const char *path, int wait)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timespec pause = {.tv_nsec = 100000}, now, begin;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address.sun_path, path);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (!wait || (errno != ENOENT && errno != ECONNREFUSED) || now.tv_sec - begin.tv_sec > 30)
            fail(path);
        nanosleep(&pause, NULL);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static char buffer[1 << 20];
    size_t length = 0;
    int replies = 0;
    char *line = buffer, *end;

    if (argc < 3) {
        fprintf(stderr, "usage: floor SOCKET COMMAND [PROGRAM ARG...]\n");
        return 2;
    }
    if (argc > 3 && (errno = posix_spawnp(&(pid_t){0}, argv[3], NULL, NULL, argv + 3, environ)))
        fail(argv[3]);
    int fd = connect_to(argv[1], argc > 3);
    int size = snprintf(buffer, sizeof buffer,
                        "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"%s\"}\n", argv[2]);
    if (send(fd, buffer, size, MSG_NOSIGNAL) != size)
        fail("send");
    for (;;) {
        ssize_t count = recv(fd, buffer + length, sizeof buffer - length, 0);
        if (count < 0)
            fail("recv");
        if (count == 0) {
            fprintf(stderr, "QEMU closed the connection\n");
            return 1;
        }
        length += count;
        // The first reply is the negotiation's; greeting and events are no replies.
        for (; (end = memchr(line, '\n', buffer + length - line)); line = end + 1) {
            int is_error = !strncmp(line, "{\"error\"", 8);
            if (!is_error && strncmp(line, "{\"return\"", 9))
                continue;
            if (++replies == 2 || is_error) {
                fwrite(line, 1, end + 1 - line, stdout);
                return is_error;
            }
        }
    }
}
