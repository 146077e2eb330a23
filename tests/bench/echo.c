/*
 * echo: the least a policy server can do. Reads, finds each request's empty line, answers action=DUNNO.
 *
 *   echo inet:PORT | echo unix:/path        (inet: 127.0.0.1 only; port 0 lets the kernel choose)
 *
 * One thread, epoll, no parsing: the yardstick that other servers are compared with. Prints "inet:127.0.0.1:PORT" or
 * "unix:/path" when it listens, and runs until it is killed. A client that does not read its answers is cut off.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char answer[] = "action=DUNNO\n\n";
enum { ANSWER = sizeof answer - 1, READ = 65536, AT_ONCE = 256 };

/* What one connection needs to remember: whether the last byte of an unfinished request was a newline. */
struct client { int fd; bool after_newline; };

static int listen_on(const char *text)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    bool inet = !strncmp(text, "inet:", 5);
    socklen_t length = sizeof four;
    int one = 1, fd = socket(inet ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!inet && (strncmp(text, "unix:", 5) || strlen(text + 5) >= sizeof local.sun_path))
        return -1;
    if (inet) {
        four.sin_port = htons((uint16_t)atoi(text + 5));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    } else {
        strcpy(local.sun_path, text + 5);
    }
    if (bind(fd, inet ? (void *)&four : (void *)&local, inet ? sizeof four : sizeof local) || listen(fd, 1024))
        return -1;
    if (inet) {
        getsockname(fd, (void *)&four, &length);
        printf("inet:127.0.0.1:%d\n", ntohs(four.sin_port));
    } else {
        puts(text);
    }
    fflush(stdout);
    return fd;
}

/* The empty lines among `length` new bytes: a newline that follows a newline of the same request. */
static size_t count_requests(struct client *client, const char *bytes, size_t length)
{
    const char *end = bytes + length, *found;
    size_t count = 0;
    if (client->after_newline && *bytes == '\n') {
        count = 1;
        bytes++;
    }
    for (; (found = memmem(bytes, (size_t)(end - bytes), "\n\n", 2)); bytes = found + 2)
        count++;
    client->after_newline = end > bytes && end[-1] == '\n';
    return count;
}

static bool serve(struct client *client)
{
    static char in[READ], out[READ / 2 * ANSWER];
    ssize_t got = recv(client->fd, in, sizeof in, 0);
    if (got <= 0)
        return false;
    size_t count = count_requests(client, in, (size_t)got);
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * ANSWER, answer, ANSWER);
    return !count || send(client->fd, out, count * ANSWER, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(count * ANSWER);
}

int main(int argc, char **argv)
{
    int listener = argc == 2 ? listen_on(argv[1]) : -1, poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN}, events[AT_ONCE];
    if (listener < 0) {
        fputs("usage: echo inet:PORT | unix:/path (or it cannot be bound)\n", stderr);
        return 2;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, AT_ONCE, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                if (!(client = calloc(1, sizeof *client)) || (client->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
                    free(client);
                    continue;
                }
                event.data.ptr = client;
                epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
            } else if (!serve(client)) {
                close(client->fd);
                free(client);
            }
        }
    }
}
