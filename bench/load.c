/* Clients whose own cost must be small: requests released at one moment, and WebSocket ping-pong.
 *
 *   load burst PORT PATH COUNT                  opens COUNT connections, then sends a request on all of them at once
 *   load echo PORT PATH CLIENTS SECONDS SIZE    each client sends a text message and waits for it to come back
 *   load mirror PORT SIZE                       not a client: answers any request, and every frame with a constant one
 *
 * Each runs in one thread over epoll, formats nothing while it measures, and prints one line of JSON at its end. `mirror`
 * is the cheapest server there can be: what `echo` reaches with it is the client's own limit. SIZE is 1..125 bytes,
 * so that a frame has a head of two bytes and its mask. Sources: RFC 6455 §4, §5; epoll(7).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 8192
#define LATENCIES (1 << 24)
#define SERVED_AT_ONCE 256

/* The key of RFC 6455 §1.3 and its answer: constant, so that nobody needs SHA-1. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

struct connection {
    int fd;
    int open;   /* mirror: the handshake is done; burst: the answer has not come */
    size_t len; /* bytes in `data` */
    double sent;
    char data[ROOM];
};

static uint32_t *latencies_us;
static long measured;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void note(double seconds) {
    if (measured < LATENCIES)
        latencies_us[measured] = (uint32_t)(seconds * 1e6);
    measured++;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_result(double wall, long errors) {
    long count = measured < LATENCIES ? measured : LATENCIES;
    double sum = 0;
    qsort(latencies_us, count, sizeof *latencies_us, by_size);
    for (long at = 0; at < count; at++)
        sum += latencies_us[at];
    printf("{\"requests\": %ld, \"wall_s\": %.6f, \"errors\": %ld", measured, wall, errors);
    if (count)
        printf(", \"mean_ms\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f", sum / count / 1e3,
               latencies_us[count / 2] / 1e3, latencies_us[(long)(count * 0.99)] / 1e3, latencies_us[count - 1] / 1e3);
    printf("}\n");
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return to;
}

static void set_nodelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int dial(int port) {
    struct sockaddr_in to = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    set_nodelay(fd);
    return fd;
}

static void watch(int poll, int fd, void *connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

/* Reads what is there behind what was read before; false when the peer has gone or sends more than there is room for. */
static int fill(struct connection *one) {
    ssize_t got = recv(one->fd, one->data + one->len, ROOM - 1 - one->len, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (got <= 0)
        return 0;
    one->len += got;
    one->data[one->len] = 0;
    return 1;
}

/* Whether `data` is a whole answer: by its Content-Length, or by its last chunk. */
static int answer_is_whole(const struct connection *one) {
    const char *head = strstr(one->data, "\r\n\r\n"), *field;
    if (!head)
        return 0;
    if ((field = strcasestr(one->data, "\r\ncontent-length:")) && field < head)
        return one->len >= (size_t)(head + 4 - one->data) + strtoul(field + 17, NULL, 10);
    return one->len >= 5 && !memcmp(one->data + one->len - 5, "0\r\n\r\n", 5);
}

static void burst(int port, const char *path, int count) {
    char request[1024];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n\r\n", path, port);
    struct connection *all = calloc(count, sizeof *all);
    struct epoll_event events[SERVED_AT_ONCE];
    int poll = epoll_create1(EPOLL_CLOEXEC), waiting = count;
    long errors = 0;
    for (int at = 0; at < count; at++) {
        all[at].fd = dial(port);
        all[at].open = 1;
        watch(poll, all[at].fd, &all[at]);
    }
    usleep(300000); /* the server accepts them all: connections are not what is measured */
    double start = now();
    for (int at = 0; at < count; at++)
        if (send(all[at].fd, request, length, MSG_NOSIGNAL) != length)
            errors++, waiting--, all[at].open = 0;
    while (waiting && now() < start + 30) {
        int ready = epoll_wait(poll, events, SERVED_AT_ONCE, 100);
        for (int at = 0; at < ready; at++) {
            struct connection *one = events[at].data.ptr;
            int alive = fill(one);
            if (alive && !answer_is_whole(one))
                continue;
            epoll_ctl(poll, EPOLL_CTL_DEL, one->fd, NULL);
            if (!one->open)
                continue;
            one->open = 0, waiting--;
            if (alive && !strncmp(one->data, "HTTP/1.1 200 ", 13))
                note(now() - start); /* from the moment of release, not from its own turn in the loop above */
            else
                errors++;
        }
    }
    print_result(now() - start, errors + waiting);
}

/* A server's text frame; with a mask, a client's. Returns its length. */
static size_t text_frame(unsigned char *frame, int size, const unsigned char *mask) {
    size_t at = 0;
    frame[at++] = 0x81;
    frame[at++] = (mask ? 0x80 : 0) | size;
    for (int key = 0; mask && key < 4; key++)
        frame[at++] = mask[key];
    for (int byte = 0; byte < size; byte++)
        frame[at++] = ('a' + byte % 26) ^ (mask ? mask[byte % 4] : 0);
    return at;
}

static void shake_hands(struct connection *one, int port, const char *path) {
    char request[1024];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n", path, port);
    struct timeval patience = {.tv_sec = 10};
    one->fd = dial(port);
    setsockopt(one->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (send(one->fd, request, length, MSG_NOSIGNAL) != length)
        die("handshake");
    errno = 0;
    while (!strstr(one->data, "\r\n\r\n"))
        if (!fill(one) || errno == EAGAIN)
            die("no answer to the handshake");
    if (strncmp(one->data, "HTTP/1.1 101 ", 13) || !strstr(one->data, ACCEPT)) {
        fprintf(stderr, "load: the handshake was answered: %.*s\n", (int)strcspn(one->data, "\r"), one->data);
        exit(1);
    }
    one->len = 0;
}

static void echo(int port, const char *path, int clients, double seconds, int size) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char question[160], answer[160];
    size_t asked = text_frame(question, size, mask), answered = text_frame(answer, size, NULL);
    struct connection *all = calloc(clients, sizeof *all);
    struct epoll_event events[SERVED_AT_ONCE];
    int poll = epoll_create1(EPOLL_CLOEXEC);
    long errors = 0;
    for (int at = 0; at < clients; at++) {
        shake_hands(&all[at], port, path);
        watch(poll, all[at].fd, &all[at]);
    }
    double start = now(), at_time = start;
    for (int at = 0; at < clients; at++) {
        all[at].sent = now();
        errors += send(all[at].fd, question, asked, MSG_NOSIGNAL) != (ssize_t)asked;
    }
    while ((at_time = now()) < start + seconds) {
        int ready = epoll_wait(poll, events, SERVED_AT_ONCE, 100);
        for (int at = 0; at < ready; at++) {
            struct connection *one = events[at].data.ptr;
            int alive = fill(one);
            if (alive && one->len < answered)
                continue;
            if (!alive || one->len > answered || memcmp(one->data, answer, answered)) {
                errors++; /* gone, or not what was sent: this client is out */
                epoll_ctl(poll, EPOLL_CTL_DEL, one->fd, NULL);
                continue;
            }
            double then = now();
            note(then - one->sent);
            one->sent = then, one->len = 0;
            errors += send(one->fd, question, asked, MSG_NOSIGNAL) != (ssize_t)asked;
        }
    }
    print_result(at_time - start, errors);
}

/* One turn of a mirrored connection; false when it is over. */
static int reflect(struct connection *one, const unsigned char *answer, size_t answered) {
    static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!";
    static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n";
    if (!fill(one))
        return 0;
    if (!one->open) {
        if (!strstr(one->data, "\r\n\r\n"))
            return 1;
        one->open = strcasestr(one->data, "\r\nupgrade: websocket") != NULL;
        one->len = 0;
        return one->open ? send(one->fd, upgraded, sizeof upgraded - 1, MSG_NOSIGNAL) > 0
                         : send(one->fd, plain, sizeof plain - 1, MSG_NOSIGNAL) > 0;
    }
    for (; one->len >= answered + 4; one->len -= answered + 4) /* what came has a mask of four bytes besides */
        if (send(one->fd, answer, answered, MSG_NOSIGNAL) != (ssize_t)answered)
            return 0;
    return 1;
}

static void mirror(int port, int size) {
    unsigned char answer[160];
    size_t answered = text_frame(answer, size, NULL);
    struct sockaddr_in here = loopback(port);
    struct epoll_event events[SERVED_AT_ONCE];
    int poll = epoll_create1(EPOLL_CLOEXEC), on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 4096) < 0)
        die("listen");
    watch(poll, listener, NULL);
    for (;;) {
        int ready = epoll_wait(poll, events, SERVED_AT_ONCE, -1);
        for (int at = 0; at < ready; at++) {
            struct connection *one = events[at].data.ptr;
            if (one && !reflect(one, answer, answered)) {
                close(one->fd);
                free(one);
            }
            for (int fd; !one && (fd = accept(listener, NULL, NULL)) >= 0;) {
                struct connection *fresh = calloc(1, sizeof *fresh);
                fresh->fd = fd;
                set_nodelay(fd);
                watch(poll, fd, fresh);
            }
        }
    }
}

int main(int count, char **words) {
    latencies_us = malloc(LATENCIES * sizeof *latencies_us);
    if (count == 5 && !strcmp(words[1], "burst"))
        burst(atoi(words[2]), words[3], atoi(words[4]));
    else if (count == 7 && !strcmp(words[1], "echo") && atoi(words[6]) >= 1 && atoi(words[6]) <= 125)
        echo(atoi(words[2]), words[3], atoi(words[4]), atof(words[5]), atoi(words[6]));
    else if (count == 4 && !strcmp(words[1], "mirror") && atoi(words[3]) >= 1 && atoi(words[3]) <= 125)
        mirror(atoi(words[2]), atoi(words[3]));
    else
        return fputs("usage: load burst PORT PATH COUNT | echo PORT PATH CLIENTS SECONDS SIZE | mirror PORT SIZE\n", stderr), 2;
    return 0;
}
