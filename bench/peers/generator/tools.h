/* What `generator.c` needs that is not about connections: failures, clocks, latencies, bytes. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUCKETS = 128 + 64 * 40 }; /* of latencies: exact below 128 us, then within 1.6 % */

struct bytes { unsigned char *at; size_t n; };

static int64_t buckets[BUCKETS], samples;

/* Answer that a command failed, with the beginning of what was heard, if anything, and end. */
__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct bytes *heard, const char *how, ...) {
    va_list arguments;
    va_start(arguments, how);
    printf("{\"failed\": \"");
    vprintf(how, arguments);
    if (heard) printf(", after %zu bytes: ", heard->n);
    for (size_t i = 0; heard && i < heard->n && i < 160; i++) {
        unsigned char c = heard->at[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 32 || c > 126) printf("\\\\x%02x", c);
        else putchar(c);
    }
    printf("\"}\n");
    fflush(stdout);
    exit(1);
}

static int64_t clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static int bucket_of(int64_t us) {
    if (us < 128) return us < 0 ? 0 : us;
    int shift = 63 - __builtin_clzll(us) - 6;
    int index = 128 + (shift - 1) * 64 + (int)((us >> shift) - 64);
    return index < BUCKETS ? index : BUCKETS - 1;
}

/* Return the lower bound of the bucket that has this share of the samples below it. */
static double quantile_s(double share) {
    int64_t wanted = samples * share, seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += buckets[i];
        if (seen > wanted) {
            if (i < 128) return i / 1e6;
            int shift = (i - 128) / 64 + 1;
            return (((int64_t)(i - 128) % 64 + 64) << shift) / 1e6;
        }
    }
    return 0;
}

static void sample(int64_t ns) {
    buckets[bucket_of(ns / 1000)]++;
    samples++;
}

static struct bytes from_hex(const char *text) {
    struct bytes made = {NULL, 0};
    if (!text || !strcmp(text, "-")) return made;
    made.at = malloc(strlen(text) / 2 + 1);
    for (unsigned value; sscanf(text, "%2x", &value) == 1; text += 2) made.at[made.n++] = value;
    return made;
}

static void append(struct bytes *to, const void *data, size_t n) {
    to->at = realloc(to->at, to->n + n);
    memcpy(to->at + to->n, data, n);
    to->n += n;
}

/* Return a copy in which each `place` is a number of as many digits. */
static struct bytes numbered(struct bytes template, const char *place, int number) {
    struct bytes made = {malloc(template.n + 1), template.n};
    size_t n = strlen(place);
    char digits[16];
    snprintf(digits, sizeof digits, "%0*d", (int)n, number);
    memcpy(made.at, template.at, template.n);
    for (unsigned char *at = made.at; (at = memmem(at, made.at + made.n - at, place, n));)
        memcpy(at, digits, n);
    return made;
}

static void forget_samples(void) {
    memset(buckets, 0, sizeof buckets);
    samples = 0;
}
