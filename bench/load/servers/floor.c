/* The floor of fan-out: a loop of send(2) over all subscribers.
 *
 * usage: floor PORT
 *
 * A connection that sends S becomes a subscriber, one that sends P the publisher; the byte is echoed. The publisher
 * sends 32-bit sizes in the byte order of this machine; for each, so many bytes are sent to all subscribers, in one
 * send(2) each. It waits for a socket whose buffer is full: there are no queues. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SUBSCRIBERS_MAX = 20000, BYTES_MAX = 1 << 20 };

static int subscribers[SUBSCRIBERS_MAX], count;
static char bytes[BYTES_MAX];

static void fail(const char *what) { perror(what); exit(1); }

static void send_all(int fd, uint32_t size) {
    uint32_t sent = 0;
    while (sent < size) {
        ssize_t n = send(fd, bytes + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            sent += n;
        } else if (errno == EAGAIN) {
            struct pollfd waiting = {fd, POLLOUT, 0};
            poll(&waiting, 1, -1);
        } else {
            fail("send");
        }
    }
}

static void publish(int fd) {
    static unsigned char input[1 << 16];
    static size_t held;
    ssize_t n = recv(fd, input + held, sizeof input - held, 0);
    if (n <= 0) exit(0);
    held += n;
    size_t at = 0;
    for (; at + 4 <= held; at += 4) {
        uint32_t size;
        memcpy(&size, input + at, 4);
        if (size > BYTES_MAX) exit(2);
        for (int i = 0; i < count; i++) send_all(subscribers[i], size);
    }
    memmove(input, input + at, held - at);
    held -= at;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0), publisher = -1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (listen(listener, 4096)) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        if (epoll_wait(poller, &event, 1, -1) != 1) continue;
        int fd = event.data.fd;
        if (fd == listener) {
            fd = accept(listener, NULL, NULL);
            if (fd < 0) fail("accept");
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.data.fd = fd;
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        } else if (fd == publisher) {
            publish(fd);
        } else {
            char role;
            if (recv(fd, &role, 1, 0) != 1) { /* a probe whether the server listens, or a subscriber at the end */
                close(fd);
                continue;
            }
            if (role == 'P') publisher = fd;
            else if (count < SUBSCRIBERS_MAX) subscribers[count++] = fd;
            send(fd, &role, 1, MSG_NOSIGNAL);
        }
    }
}
