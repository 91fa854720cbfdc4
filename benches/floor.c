// The floor that maqet is measured against: what has to be done, and no more.
//
//   floor SOCKET COMMAND                 one QMP command, answer to stdout
//   floor -n COUNT SOCKET COMMAND        the same COUNT times on one connection,
//                                        each when the one before is answered
//   floor SOCKET COMMAND PROGRAM ARG...  the same, but first starts PROGRAM,
//                                        and waits until the socket answers
//
// COMMAND is a name, or a whole command as JSON.
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

// Retried often enough that it does not show in what is waited for, and seldom
// enough to leave the processor to QEMU, of which there may be many.
static int connect_to(const char *path, int wait)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timespec pause = {0}, now, begin;
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
        long long waited = (now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec;
        pause.tv_nsec = 100000 + waited / 200;
        nanosleep(&pause, NULL);
    }
    return fd;
}

// Returns the exit status, or -1 when QEMU closed the connection.
static int ask(int fd, const char *command, int size, int count)
{
    static char buffer[1 << 20];
    size_t length = 0;
    int replies = 0;
    char *line = buffer, *end;

    int first = snprintf(buffer, sizeof buffer, "{\"execute\":\"qmp_capabilities\"}\n%s", command);
    if (send(fd, buffer, first, MSG_NOSIGNAL) != first)
        return -1;
    for (;;) {
        ssize_t received = recv(fd, buffer + length, sizeof buffer - length, 0);
        if (received <= 0)
            return -1;
        length += received;
        // The first reply is the negotiation's; greeting and events are no replies.
        for (; (end = memchr(line, '\n', buffer + length - line)); line = end + 1) {
            int is_error = !strncmp(line, "{\"error\"", 8);
            if (!is_error && strncmp(line, "{\"return\"", 9))
                continue;
            if (++replies == count + 1 || is_error) {
                fwrite(line, 1, end + 1 - line, stdout);
                return is_error;
            }
            if (replies > 1 && send(fd, command, size, MSG_NOSIGNAL) != size)
                return -1;
        }
        // What is left is the beginning of a line.
        length = buffer + length - line;
        memmove(buffer, line, length);
        line = buffer;
    }
}

int main(int argc, char **argv)
{
    char command[256];
    int count = 1;

    if (argc > 2 && !strcmp(argv[1], "-n")) {
        count = atoi(argv[2]);
        argc -= 2, argv += 2;
    }
    if (argc < 3 || count < 1) {
        fprintf(stderr, "usage: floor [-n COUNT] SOCKET COMMAND [PROGRAM ARG...]\n");
        return 2;
    }
    if (argc > 3 && (errno = posix_spawnp(&(pid_t){0}, argv[3], NULL, NULL, argv + 3, environ)))
        fail(argv[3]);
    const char *format = *argv[2] == '{' ? "%s\n" : "{\"execute\":\"%s\"}\n";
    int size = snprintf(command, sizeof command, format, argv[2]);
    int wait = argc > 3, status;
    // With a program, what has closed the connection was the one before it.
    while ((status = ask(connect_to(argv[1], wait), command, size, count)) < 0 && wait)
        ;
    if (status < 0)
        fprintf(stderr, "QEMU closed the connection\n");
    return status < 0 ? 1 : status;
}
