/* The load generator of `bench peers`: subscribers and publishers of any server, from scripts of bytes.
 *
 * usage: generator PORT; commands are lines on stdin, answers lines of JSON on stdout. Bytes are hex, "-" for none.
 *
 *   step ROLE SEND BEGINS WAIT COUNT REFUSE   append to the handshake of role 0 (subscriber) or 1 (publisher): send,
 *                                             until WAIT was heard COUNT times; the answer must begin with BEGINS, and
 *                                             REFUSE in it is a refusal
 *   reflex HEARD SAY                          answer what subscribers hear beside deliveries, if it is in one recv(2)
 *   publish BYTES ACK REFUSE                  one publish, its acknowledgement and its refusal
 *   open ROLE COUNT AT_ONCE TIMEOUT_MS        open connections, so many handshakes under way at once
 *   quiet MS                                  only receive
 *   paced RATE SECONDS SETTLE_MS              publish by the clock, then wait until all hold the newest value
 *   bursts SIZE TIMES TIMEOUT_MS              publish SIZE values in one write, and wait until all hold the newest
 *   closed SECONDS                            each publisher publishes again once the one before is acknowledged
 *
 * In SEND and BYTES, "@@@@@@" becomes the connection's number. A value has a marker, "~@~#" and twelve digits, which
 * each publish counts up; it is found in any protocol that leaves a value in one piece. Connections have source
 * addresses of 127.1.0.0/16, few of each: from one address, ports run short and connect(2) gets slow. */
#include "tools.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PREFIX "~@~#"
#define PLACE "@@@@@@"
#ifndef RECEIVE_BYTES
#define RECEIVE_BYTES 65536
#endif
#define LEN(text) (sizeof(text) - 1)

enum {
    DIGITS = 12,
    MARKER = LEN(PREFIX) + DIGITS,
    MARKERS_MAX = 4,         /* in one publish */
    CARRY_MAX = 64,          /* the longest marker or acknowledgement that is found across two recv(2) */
    STEPS_MAX = 8,
    HEARD_MAX = 65536,       /* of the answer to one step */
    EVENTS_MAX = 64,
    ADDRESS_LINKS = 250,     /* connections of one source address */
    NAP_US = 200,            /* as in bench/load/sink.py: else each delivery would wake this process by itself */
    NUMBERS_MAX = 1 << 20,   /* values of one run */
    DRAIN_MS = 10000,        /* for acknowledgements at the end of a closed loop */
};

struct step { struct bytes send, begins, wait, refuse; int count; };
struct link {
    int fd, role, number, step, carried;
    bool open;
    unsigned char carry[CARRY_MAX];
    struct bytes heard, out, publish;
    int64_t held, asked_ns;
};

static struct step steps[2][STEPS_MAX];
static int step_count[2], open_links[2], count, port, poller, lost, publisher_count;
static struct bytes reflex_heard, reflex_say, publish, ack, refusal;
static struct link **links, **publishers;
static unsigned char buffer[CARRY_MAX + RECEIVE_BYTES];
static int64_t due_ns[NUMBERS_MAX], base = 1, total, got, repeated, holders, acks;
static bool each_value, again;

/* Connections ------------------------------------------------------------------------------------------------------ */

static void watch(struct link *link, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = link};
    epoll_ctl(poller, how, link->fd, &event);
}

static void drop(struct link *link, const char *why) {
    if (!link->open || link->step < step_count[link->role])
        fail(&link->heard, "%s in step %d of a handshake", why, link->step + 1);
    if (link->role) fail(NULL, "%s: the connection of a publisher", why);
    close(link->fd);
    link->fd = -1;
    open_links[0]--;
    holders -= link->held == base + total - 1;
    lost++;
}

static void flush(struct link *link) {
    if (!link->out.n) return;
    ssize_t n = send(link->fd, link->out.at, link->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return; /* receiving meets the same error, and reports it */
    if (n > 0) memmove(link->out.at, link->out.at + n, link->out.n -= n);
    watch(link, link->out.n ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void say(struct link *link, const void *data, size_t n) {
    bool waiting = link->out.n > 0;
    ssize_t sent = waiting ? 0 : send(link->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)n) return;
    append(&link->out, (const char *)data + (sent > 0 ? sent : 0), n - (sent > 0 ? sent : 0));
    if (!waiting) watch(link, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

static void began_step(struct link *link) {
    if (link->step == step_count[link->role]) {
        open_links[link->role]++;
        return;
    }
    struct bytes data = numbered(steps[link->role][link->step].send, PLACE, link->number);
    if (data.n) say(link, data.at, data.n);
    free(data.at);
}

/* Take what was heard of the handshake; the rest after its last step is dropped, as no run has begun. */
static void shake(struct link *link, const unsigned char *data, size_t n) {
    append(&link->heard, data, n);
    while (link->step < step_count[link->role]) {
        struct step *step = &steps[link->role][link->step];
        struct bytes *heard = &link->heard;
        size_t least = step->begins.n < heard->n ? step->begins.n : heard->n;
        if (memcmp(heard->at, step->begins.at ? step->begins.at : heard->at, least)
            || (step->refuse.n && memmem(heard->at, heard->n, step->refuse.at, step->refuse.n)))
            fail(heard, "the server refused step %d of a handshake", link->step + 1);
        size_t from = 0;
        int seen = 0;
        for (unsigned char *at; seen < step->count; seen++) {
            if (!(at = memmem(heard->at + from, heard->n - from, step->wait.at, step->wait.n))) break;
            from = at - heard->at + step->wait.n;
        }
        if (seen < step->count) {
            if (heard->n > HEARD_MAX) fail(heard, "step %d of a handshake got no end", link->step + 1);
            return;
        }
        memmove(heard->at, heard->at + from, heard->n -= from);
        link->step++;
        began_step(link);
    }
    free(link->heard.at);
    link->heard = (struct bytes){NULL, 0};
}

static void dial(int role) {
    int one = 1, zero = 0, number = count++;
    links = realloc(links, count * sizeof *links);
    struct link *link = links[number] = calloc(1, sizeof *link);
    link->role = role;
    link->number = number;
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (link->fd < 0) fail(NULL, "no socket: %s: raise the limit of open files (ulimit -n)", strerror(errno));
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(link->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    from.sin_addr.s_addr = htonl((127 << 24) + (1 << 16) + number / ADDRESS_LINKS + 1);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(link->fd, (struct sockaddr *)&from, sizeof from)) fail(NULL, "bind: %s", strerror(errno));
    if (connect(link->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fail(NULL, "no connection: %s", strerror(errno));
    /* Delayed acknowledgements, as between machines: else each recv(2) sends one. */
    setsockopt(link->fd, IPPROTO_TCP, TCP_QUICKACK, &zero, sizeof zero);
    watch(link, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
    if (role) {
        publishers = realloc(publishers, ++publisher_count * sizeof *publishers);
        publishers[publisher_count - 1] = link;
        link->publish = numbered(publish, PLACE, number);
    }
}

/* Publishing and receiving ----------------------------------------------------------------------------------------- */

static void patch(struct link *link, int64_t number) {
    char digits[24];
    snprintf(digits, sizeof digits, "%012lld", (long long)number);
    unsigned char *at = link->publish.at, *end = at + link->publish.n;
    for (int i = 0; i < MARKERS_MAX && (at = memmem(at, end - at, PREFIX, LEN(PREFIX))); i++, at += MARKER)
        memcpy(at + LEN(PREFIX), digits, DIGITS);
}

static void held(struct link *link, int64_t number, int64_t at_ns) {
    if (number < base || number >= base + total) return; /* of an earlier run */
    if (number <= link->held) {
        repeated++;
        return;
    }
    got++;
    if (each_value)
        for (int64_t k = link->held + 1; k <= number; k++) sample(at_ns - due_ns[k - base]);
    link->held = number;
    if (number == base + total - 1) {
        holders++;
        if (!each_value) sample(at_ns - due_ns[number - base]);
    }
}

static void find_markers(struct link *link, unsigned char *at, unsigned char *end) {
    int64_t now = now_ns();
    bool any = false;
    unsigned char *from = at;
    link->carried = 0;
    while ((at = memchr(at, PREFIX[0], end - at))) {
        size_t rest = end - at;
        if (memcmp(at, PREFIX, rest < LEN(PREFIX) ? rest : LEN(PREFIX))) {
            at++;
            continue;
        }
        if (rest < MARKER) {
            memcpy(link->carry, at, link->carried = rest);
            break;
        }
        int64_t number = 0;
        for (unsigned char *digit = at + LEN(PREFIX); digit < at + MARKER; digit++) number = number * 10 + *digit - '0';
        held(link, number, now);
        any = true;
        at += MARKER;
    }
    if (!any && reflex_heard.n && memmem(from, end - from, reflex_heard.at, reflex_heard.n))
        say(link, reflex_say.at, reflex_say.n);
}

static void find_acks(struct link *link, unsigned char *at, unsigned char *end) {
    unsigned char *from = at;
    int seen = 0;
    for (unsigned char *next; (next = memmem(at, end - at, ack.at, ack.n)); seen++) at = next + ack.n;
    if (!seen && refusal.n && memmem(from, end - from, refusal.at, refusal.n)) {
        struct bytes heard = {from, end - from};
        fail(&heard, "the server refused a publish");
    }
    acks += seen;
    size_t rest = end - at;
    link->carried = rest < ack.n ? rest : ack.n - 1;
    memcpy(link->carry, end - link->carried, link->carried);
    if (seen && link->asked_ns) {
        int64_t now = now_ns();
        sample(now - link->asked_ns);
        link->asked_ns = 0;
        if (again) {
            link->asked_ns = now;
            patch(link, ++link->held);
            say(link, link->publish.at, link->publish.n);
        }
    }
}

static void receive(struct link *link) {
    ssize_t n = recv(link->fd, buffer + CARRY_MAX, RECEIVE_BYTES, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(link, n ? strerror(errno) : "closed by the server");
        return;
    }
    if (link->step < step_count[link->role]) {
        shake(link, buffer + CARRY_MAX, n);
        return;
    }
    unsigned char *at = buffer + CARRY_MAX - link->carried, *end = buffer + CARRY_MAX + n;
    memcpy(at, link->carry, link->carried);
    if (link->role) find_acks(link, at, end);
    else find_markers(link, at, end);
}

/* Take what has come; wait for so long if nothing has. With `nap`, pause after few. */
static void turn(int timeout_ms, bool nap) {
    static struct epoll_event events[EVENTS_MAX];
    int ready = epoll_wait(poller, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < ready; i++) {
        struct link *link = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) {
            if (!link->open && !(events[i].events & (EPOLLERR | EPOLLHUP))) {
                link->open = true;
                watch(link, EPOLLIN, EPOLL_CTL_MOD);
                began_step(link);
            } else {
                flush(link);
            }
        }
        if (events[i].events & ~EPOLLOUT) receive(link);
    }
    if (nap && ready < EVENTS_MAX) usleep(NAP_US);
}

static void begin(int64_t values, bool each) {
    if (!publishers || open_links[1] == 0) fail(NULL, "there is no publisher: open one first");
    if (values > NUMBERS_MAX) fail(NULL, "at most %d values in one run", NUMBERS_MAX);
    base += total;
    total = values;
    each_value = each;
    got = repeated = holders = acks = 0;
    for (int i = 0; i < count; i++) links[i]->held = base - 1;
}

/* Commands --------------------------------------------------------------------------------------------------------- */

static void do_open(int role, int wanted, int at_once, int timeout_ms) {
    int before = open_links[role], opened;
    int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), began = now_ns();
    for (int dialled = 0; (opened = open_links[role] - before) < wanted;) {
        for (; dialled < wanted && dialled - opened < at_once; dialled++) dial(role);
        turn(100, false);
        if (now_ns() - began > timeout_ms * 1000000LL)
            fail(NULL, "only %d of %d connections opened within %d ms", opened, wanted, timeout_ms);
    }
    printf("{\"opened\": %d, \"open_s\": %.6f, \"generator_cpu_s\": %.6f}\n", wanted, (now_ns() - began) / 1e9,
           (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9);
}

static void do_quiet(int ms) {
    for (int64_t ends = now_ns() + ms * 1000000LL; now_ns() < ends;) turn(20, true);
    printf("{\"lost\": %d}\n", lost);
}

static void report(int64_t published, int64_t wall_ns, int64_t cpu_ns, const char *more) {
    printf("{\"published\": %lld, \"deliveries\": %lld, \"repeated\": %lld, \"acks\": %lld, \"holders\": %lld, "
           "\"lost\": %d, \"wall_s\": %.6f, \"generator_cpu_s\": %.6f, \"p50_s\": %.6f, \"p99_s\": %.6f%s}\n",
           (long long)published, (long long)got, (long long)repeated, (long long)acks, (long long)holders, lost,
           wall_ns / 1e9, cpu_ns / 1e9, quantile_s(0.5), quantile_s(0.99), more);
    lost = 0;
}

/* Values that never came count as long as they were waited for, so that nobody gains by leaving them out. */
static void count_missing(int64_t ended) {
    for (int i = 0; i < count; i++)
        for (int64_t k = links[i]->held + 1; !links[i]->role && k < base + total; k++) sample(ended - due_ns[k - base]);
}

static void do_paced(double rate, double seconds, int settle_ms) {
    struct link *by = publishers ? publishers[0] : NULL;
    begin(rate * seconds, true);
    forget_samples();
    int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), began = now_ns(), sent = 0, now;
    for (int64_t i = 0; i < total; i++) due_ns[i] = began + i * (1e9 / rate);
    int64_t ends = due_ns[total - 1] + settle_ms * 1000000LL;
    while ((now = now_ns()) < ends && (sent < total || holders < open_links[0] || acks < total)) {
        for (; sent < total && due_ns[sent] <= now; sent++) {
            patch(by, base + sent);
            say(by, by->publish.at, by->publish.n);
        }
        int64_t left_ms = sent < total ? (due_ns[sent] - now) / 1000000 : 20;
        turn(left_ms < 20 ? left_ms : 20, true);
    }
    count_missing(now_ns());
    report(total, now_ns() - began, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu, "");
}

static void do_bursts(int size, int times, int timeout_ms) {
    int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wall_ns = 0, deliveries = 0, late = 0;
    struct bytes all = {NULL, 0};
    char more[80];
    forget_samples();
    for (int time = 0; time < times; time++) {
        begin(size, false);
        struct link *by = publishers[0];
        all.n = 0;
        for (int i = 0; i < size; i++) {
            patch(by, base + i);
            append(&all, by->publish.at, by->publish.n);
        }
        int64_t began = now_ns(), ended = 0;
        for (int i = 0; i < size; i++) due_ns[i] = began;
        say(by, all.at, all.n);
        while (now_ns() - began < timeout_ms * 1000000LL && (holders < open_links[0] || acks < size)) {
            turn(20, true);
            if (!ended && holders >= open_links[0]) ended = now_ns();
        }
        if (!ended) late++, ended = now_ns();
        wall_ns += ended - began;
        for (int i = 0; i < count; i++)
            if (!links[i]->role && links[i]->held < base + size - 1) sample(ended - began);
        deliveries += got;
    }
    got = deliveries;
    snprintf(more, sizeof more, ", \"late\": %lld, \"all_s\": %.6f", (long long)late, wall_ns / 1e9 / times);
    report((int64_t)size * times, wall_ns, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu, more);
}

static void do_closed(double seconds) {
    begin(1, false);
    forget_samples();
    int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), began = now_ns(), ends = began + seconds * 1e9, within, ended;
    again = true;
    for (int i = 0; i < open_links[1]; i++) {
        publishers[i]->asked_ns = now_ns();
        patch(publishers[i], ++publishers[i]->held);
        say(publishers[i], publishers[i]->publish.at, publishers[i]->publish.n);
    }
    while (now_ns() < ends) turn(20, false);
    within = acks;
    ended = now_ns();
    again = false;
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    for (int waiting = 1; waiting;) {
        waiting = 0;
        for (int i = 0; i < open_links[1]; i++) waiting += publishers[i]->asked_ns != 0;
        if (now_ns() - ended > DRAIN_MS * 1000000LL) fail(NULL, "%d publishes got no answer", waiting);
        if (waiting) turn(20, false);
    }
    acks = within;
    base += 1 << 30; /* numbers that these publishers have used */
    report(within, ended - began, cpu, "");
}

int main(int argc, char **argv) {
    char *line = NULL;
    size_t room = 0;
    if (argc != 2) return 2;
    port = atoi(argv[1]);
    poller = epoll_create1(0);
    while (getline(&line, &room, stdin) > 0) {
        char *word[8] = {0};
        int words = 0;
        for (char *next = strtok(line, " \n"); next && words < 8; next = strtok(NULL, " \n")) word[words++] = next;
        if (words == 0) continue;
        double number[8] = {0};
        for (int i = 1; i < words; i++) number[i] = atof(word[i]);
        if (!strcmp(word[0], "step") && words == 7) {
            int role = number[1];
            if (step_count[role] == STEPS_MAX) fail(NULL, "at most %d steps", STEPS_MAX);
            steps[role][step_count[role]++] = (struct step){from_hex(word[2]), from_hex(word[3]), from_hex(word[4]),
                                                            from_hex(word[6]), number[5]};
            printf("{}\n");
        } else if (!strcmp(word[0], "reflex") && words == 3) {
            reflex_heard = from_hex(word[1]);
            reflex_say = from_hex(word[2]);
            printf("{}\n");
        } else if (!strcmp(word[0], "publish") && words == 4) {
            publish = from_hex(word[1]);
            ack = from_hex(word[2]);
            refusal = from_hex(word[3]);
            if (ack.n < 1 || ack.n > CARRY_MAX) fail(NULL, "an acknowledgement has 1 to %d bytes", CARRY_MAX);
            printf("{}\n");
        } else if (!strcmp(word[0], "open") && words == 5) {
            do_open(number[1], number[2], number[3], number[4]);
        } else if (!strcmp(word[0], "quiet") && words == 2) {
            do_quiet(number[1]);
        } else if (!strcmp(word[0], "paced") && words == 4) {
            do_paced(number[1], number[2], number[3]);
        } else if (!strcmp(word[0], "bursts") && words == 4) {
            do_bursts(number[1], number[2], number[3]);
        } else if (!strcmp(word[0], "closed") && words == 2) {
            do_closed(number[1]);
        } else {
            fail(NULL, "there is no command %s with %d words", word[0], words - 1);
        }
        fflush(stdout);
    }
    return 0;
}
