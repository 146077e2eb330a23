/*
 * load: closed-loop load for a Postfix policy service, over loopback only.
 *
 *   load [-a] [-c CONNECTIONS] [-p PIPELINE] [-n REQUESTS] [-s SECONDS] [-w WARMUP] [-e EXPECTED] TARGET REQUESTS
 *
 * TARGET is inet:127.0.0.1:PORT, inet:[::1]:PORT or unix:/path. REQUESTS is a file of name=value lines, an empty line
 * after each request; it is sent from its start again when it has been used up. EXPECTED holds one action word a
 * request, in the same order. Each connection has PIPELINE requests outstanding (1, as Postfix has) and sends the next
 * when an answer has arrived whole, so the server sets the pace. A run ends after SECONDS or REQUESTS, whichever is
 * first; requests sent in the first WARMUP seconds are answered and compared, but not measured.
 *
 * Guarantees: every request sent ends as an answer or as an error, and an answer nobody asked for is an error. A
 * connection with an error is closed and not opened again. Latency runs from just before send() to the answer's last
 * byte, in a histogram with steps of 0.8 %.
 *
 * Prints one line of JSON. With -a also each connection's own port (0 for a unix socket) and its measured answers, and
 * the connections stay open until standard input ends, so that somebody can look where they lead. Exit status: 0 all well, 1 errors or mismatches, 2 cannot run.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PIPELINE = 64, MAX_WORDS = 32, STEPS = 128, ANSWER_BYTES = 8192, DRAIN_SECONDS = 10 };

struct request { const char *text; size_t length; const char *expected; };
struct flight { uint64_t start; size_t request; };
struct connection {
    int fd;
    bool waits_for_room;                        /* EPOLLOUT is armed */
    char *out;                                  /* bytes of requests that are started, but not sent */
    size_t out_length, out_sent;
    char in[ANSWER_BYTES];
    size_t in_length;
    struct flight flights[MAX_PIPELINE];        /* a ring, oldest at `oldest` */
    unsigned oldest, outstanding;
    unsigned port;                              /* our end's */
    long long measured;
};

static struct request *requests;
static size_t request_count, next_request, longest_request;
static unsigned pipeline = 1, open_connections;
static long long max_requests = 1LL << 62, started, outstanding, answered, measured, errors, mismatches;
static uint64_t measure_from, deadline, last_answer, slowest, histogram[64 * STEPS];
static struct { char word[32]; long long count; } words[MAX_WORDS];
static int poller;

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(2);
}

static uint64_t now(void)                       /* nanoseconds */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Values below STEPS have a slot each; above, every power of two has STEPS slots. */
static unsigned slot_of(uint64_t value)
{
    unsigned shift = value < STEPS ? 0 : 63 - 7 - (unsigned)__builtin_clzll(value);
    return value < STEPS ? (unsigned)value : shift * STEPS + (unsigned)(value >> shift);
}

static double microseconds_at(double quantile)
{
    long long rank = (long long)(quantile * (double)measured), seen = 0;
    for (unsigned slot = 0; slot < 64 * STEPS; slot++) {
        seen += (long long)histogram[slot];
        if (seen > rank) {
            unsigned shift = slot < 2 * STEPS ? 0 : slot / STEPS - 1;
            uint64_t upper = ((uint64_t)(slot - shift * STEPS) + 1) << shift;
            return (double)(upper < slowest ? upper : slowest) / 1e3;
        }
    }
    return (double)slowest / 1e3;
}

static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        die("%s: %s", path, strerror(errno));
    *length = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*length + 1);
    if (!text || fread(text, 1, *length, file) != *length)
        die("%s: cannot read", path);
    text[*length] = 0;
    fclose(file);
    return text;
}

static void read_requests(const char *path)
{
    size_t length, room = 0;
    char *text = read_file(path, &length), *end = text + length, *stop;
    for (; text < end; text = stop + 2) {
        if (!(stop = memmem(text, (size_t)(end - text), "\n\n", 2)))
            die("%s: the last request has no empty line", path);
        if (request_count == room && !(requests = realloc(requests, (room = room * 2 + 1024) * sizeof *requests)))
            die("out of memory");
        requests[request_count].text = text;
        requests[request_count].expected = NULL;
        requests[request_count].length = (size_t)(stop + 2 - text);
        if (requests[request_count].length > longest_request)
            longest_request = requests[request_count].length;
        request_count++;
    }
    if (!request_count)
        die("%s: no requests", path);
}

static void read_expected(const char *path)
{
    size_t length, count = 0;
    for (char *word = strtok(read_file(path, &length), "\n"); word; word = strtok(NULL, "\n"), count++)
        if (count < request_count)
            requests[count].expected = word;
    if (count != request_count)
        die("%s: %zu actions for %zu requests", path, count, request_count);
}

static socklen_t parse_target(const char *text, struct sockaddr_storage *address)
{
    struct sockaddr_un *local = (void *)address;
    struct sockaddr_in *four = (void *)address;
    struct sockaddr_in6 *six = (void *)address;
    char host[64];
    unsigned port;
    memset(address, 0, sizeof *address);
    if (!strncmp(text, "unix:", 5) && strlen(text + 5) < sizeof local->sun_path) {
        local->sun_family = AF_UNIX;
        strcpy(local->sun_path, text + 5);
        return sizeof *local;
    }
    if (sscanf(text, "inet:[%63[^]]]:%u", host, &port) == 2 && inet_pton(AF_INET6, host, &six->sin6_addr) == 1
        && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        return sizeof *six;
    }
    if (sscanf(text, "inet:%63[0-9.]:%u", host, &port) == 2 && inet_pton(AF_INET, host, &four->sin_addr) == 1
        && ntohl(four->sin_addr.s_addr) >> 24 == 127) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        return sizeof *four;
    }
    die("%s: neither inet:LOOPBACK-ADDRESS:PORT nor unix:/path", text);
    return 0;
}

static void give_up(struct connection *c, const char *why)
{
    if (errors < 5)
        fprintf(stderr, "load: %s\n", why);
    errors += c->outstanding ? c->outstanding : 1;
    outstanding -= c->outstanding;
    close(c->fd);
    c->fd = -1;
    open_connections--;
}

static void connect_to(struct connection *c, const struct sockaddr_storage *address, socklen_t length)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    open_connections++;
    c->fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!(c->out = malloc(pipeline * longest_request)) || c->fd < 0)
        die("connection: %s", strerror(errno));
    if (connect(c->fd, (const void *)address, length)) {
        give_up(c, strerror(errno));
        return;
    }
    if (address->ss_family != AF_UNIX) {
        struct sockaddr_storage ours;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        length = sizeof ours;
        if (!getsockname(c->fd, (void *)&ours, &length))
            c->port = ntohs(ours.ss_family == AF_INET ? ((struct sockaddr_in *)&ours)->sin_port
                                                      : ((struct sockaddr_in6 *)&ours)->sin6_port);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

/* Start as many requests as may be outstanding, and send what the socket takes. */
static void send_requests(struct connection *c, bool stopping)
{
    if (c->out_sent == c->out_length)
        c->out_sent = c->out_length = 0;
    while (!stopping && c->outstanding < pipeline && started < max_requests
           && c->out_length + longest_request <= pipeline * longest_request) {
        struct flight *flight = &c->flights[(c->oldest + c->outstanding++) % MAX_PIPELINE];
        struct request *request = &requests[next_request];
        flight->request = next_request;
        memcpy(c->out + c->out_length, request->text, request->length);
        c->out_length += request->length;
        next_request = next_request + 1 == request_count ? 0 : next_request + 1;
        started++;
        outstanding++;
        flight->start = now();
    }
    if (c->out_sent < c->out_length) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            give_up(c, strerror(errno));
            return;
        }
        c->out_sent += sent > 0 ? (size_t)sent : 0;
    }
    bool waits_for_room = c->out_sent < c->out_length;
    if (waits_for_room != c->waits_for_room) {
        struct epoll_event event = {.events = waits_for_room ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
        c->waits_for_room = waits_for_room;
    }
}

/* One whole answer, without its last newline. False when it is not one of the protocol's. */
static bool take_answer(struct connection *c, const char *answer, size_t length, uint64_t when)
{
    if (length < 9 || memcmp(answer, "action=", 7) || memchr(answer, '\n', length - 1) || !c->outstanding)
        return false;
    const char *word = answer + 7;
    size_t word_length = strcspn(word, " \n");
    struct flight *flight = &c->flights[c->oldest];
    const char *expected = requests[flight->request].expected;
    if (expected && (strlen(expected) != word_length || memcmp(expected, word, word_length)))
        mismatches++;
    for (int i = 0; i < MAX_WORDS; i++) {
        if (!words[i].word[0])
            snprintf(words[i].word, sizeof words[i].word, "%.*s", (int)word_length, word);
        if (!strncmp(words[i].word, word, word_length) && !words[i].word[word_length]) {
            words[i].count++;
            break;
        }
    }
    if (flight->start >= measure_from) {
        uint64_t took = when - flight->start;
        histogram[slot_of(took)]++;
        slowest = took > slowest ? took : slowest;
        last_answer = when;
        measured++;
        c->measured++;
    }
    c->oldest = (c->oldest + 1) % MAX_PIPELINE;
    c->outstanding--;
    outstanding--;
    answered++;
    return true;
}

static void receive_answers(struct connection *c)
{
    ssize_t got = recv(c->fd, c->in + c->in_length, sizeof c->in - c->in_length - 1, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            give_up(c, got ? strerror(errno) : "the server closed the connection");
        return;
    }
    uint64_t when = now();
    char *answer = c->in, *end = c->in + c->in_length + got, *stop;
    *end = 0;
    for (; (stop = memmem(answer, (size_t)(end - answer), "\n\n", 2)); answer = stop + 2)
        if (!take_answer(c, answer, (size_t)(stop + 1 - answer), when)) {
            give_up(c, "not an answer, or one too many");
            return;
        }
    c->in_length = (size_t)(end - answer);
    memmove(c->in, answer, c->in_length);
    if (c->in_length == sizeof c->in - 1)
        give_up(c, "an answer without end");
}

static void run(struct connection *connections, unsigned count)
{
    struct epoll_event events[256];
    for (unsigned i = 0; i < count; i++)
        if (connections[i].fd >= 0)
            send_requests(&connections[i], false);
    while (open_connections) {
        uint64_t time = now();
        bool stopping = time >= deadline || started >= max_requests;
        if (stopping && (!outstanding || time >= deadline + DRAIN_SECONDS * 1000000000ull))
            break;
        int ready = epoll_wait(poller, events, 256, 50);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive_answers(c);
            if (c->fd >= 0)
                send_requests(c, stopping || now() >= deadline);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        if (c->fd >= 0 && c->outstanding)
            give_up(c, "no answer");
        else if (c->fd >= 0 && (c->in_length || recv(c->fd, c->in, 1, 0) > 0))
            give_up(c, "bytes nobody asked for");
    }
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || !(value >= least && value <= most))
        die("%s is not a number from %g to %g", text, least, most);
    return value;
}

int main(int argc, char **argv)
{
    double seconds = 5, warmup = 0;
    unsigned count = 1;
    bool each = false;
    const char *expected = NULL;
    for (int option; (option = getopt(argc, argv, "ac:p:n:s:w:e:")) != -1;) {
        switch (option) {
        case 'a': each = true; break;
        case 'c': count = (unsigned)number(optarg, 1, 10000); break;
        case 'p': pipeline = (unsigned)number(optarg, 1, MAX_PIPELINE); break;
        case 'n': max_requests = (long long)number(optarg, 1, 1e12); break;
        case 's': seconds = number(optarg, 0.01, 3600); break;
        case 'w': warmup = number(optarg, 0, 3600); break;
        case 'e': expected = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind != 2)
        die("usage: load [-a] [-c N] [-p N] [-n N] [-s SECONDS] [-w SECONDS] [-e EXPECTED] TARGET REQUESTS");
    struct sockaddr_storage address;
    socklen_t length = parse_target(argv[optind], &address);
    read_requests(argv[optind + 1]);
    if (expected)
        read_expected(expected);
    struct connection *connections = calloc(count, sizeof *connections);
    if (!connections || (poller = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("%s", strerror(errno));
    for (unsigned i = 0; i < count; i++)
        connect_to(&connections[i], &address, length);
    uint64_t began = now();
    measure_from = last_answer = began + (uint64_t)(warmup * 1e9);
    deadline = measure_from + (uint64_t)(seconds * 1e9);
    run(connections, count);

    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    double took = (double)(last_answer - measure_from) / 1e9;
    printf("{\"requests\": %lld, \"measured\": %lld, \"seconds\": %.6f, \"requests_per_second\": %.1f, ", answered,
           measured, took, took > 0 ? (double)measured / took : 0.0);
    printf("\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f, ", microseconds_at(.5),
           microseconds_at(.9), microseconds_at(.99), microseconds_at(.999), (double)slowest / 1e3);
    printf("\"errors\": %lld, \"mismatches\": %lld, \"load_cpu_seconds\": %.3f, \"run_seconds\": %.3f, ",
           errors, mismatches, cpu, (double)(now() - began) / 1e9);
    fputs("\"answers\": {", stdout);
    for (int i = 0; i < MAX_WORDS && words[i].word[0]; i++) {
        printf("%s\"", i ? ", " : "");
        for (const char *p = words[i].word; *p; p++)
            putchar(*p < ' ' || *p > '~' || *p == '"' || *p == '\\' ? '?' : *p);
        printf("\": %lld", words[i].count);
    }
    putchar('}');
    for (unsigned i = 0; each && i < count; i++)
        printf("%s[%u, %lld]%s", i ? ", " : ", \"connections\": [", connections[i].port, connections[i].measured,
               i + 1 == count ? "]" : "");
    puts("}");
    fflush(stdout);
    while (each && getchar() != EOF)
        ;
    return errors || mismatches ? 1 : 0;
}
