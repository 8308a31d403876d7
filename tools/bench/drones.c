/*
 * Thousands of simulated Envoys in one thread: the load of the benchmark.
 *
 * Each drone is a real TLS connection with an HTTP/2 stream of ADS on it. It subscribes as Envoy does (clusters; their endpoints and the
 * listeners; the listeners' route tables), acknowledges every response, keeps the version of each resource, and reads no more of a response than
 * that takes. One drone costs the machine some 15 to 30 us for a small push, so it is not what is measured.
 *
 *   drones HOST PORT SERVER_NAME ROOTS.pem SPEC delta|sotw WINDOW_BYTES
 *
 * Without ROOTS.pem (an empty argument) it is plain text. SPEC is binary: for each drone three fields, each with its length (u32, little endian)
 * before it: node (an encoded xDS Node), token (or empty), path of a PEM with client certificate and key (or empty). Commands come on standard
 * input, one line each; every answer is one line on standard output. Times are CLOCK_MONOTONIC in nanoseconds.
 *
 *   connect COUNT AT_ONCE SECONDS   so many drones in all; answers when all have everything they asked for
 *   expect TEXT                     from now on, the first response in which TEXT is counts for each drone
 *   wait COUNT SECONDS              answers when so many drones (0: all) have been sent it
 *   storm AT_ONCE SECONDS           all connections are cut and made anew, with the versions that the drones have
 *   stats                           bytes received and sent, messages, failures, drones that have everything, CPU seconds; since the start
 *
 * `connect`, `wait` and `storm` answer: done WANTED FIRST P50 P99 LAST MISSING
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "drones: %s (%s)\n", what, strerror(errno));
    exit(1);
}

/* Growing bytes. */
typedef struct {
    u8 *at;
    size_t length, room;
} bytes;

static void reserve(bytes *b, size_t more) {
    if (b->length + more <= b->room) return;
    size_t room = b->room ? b->room : 256;
    while (room < b->length + more) room *= 2;
    b->at = realloc(b->at, room);
    if (!b->at) die("no memory");
    b->room = room;
}

static void put(bytes *b, const void *data, size_t length) {
    reserve(b, length);
    memcpy(b->at + b->length, data, length);
    b->length += length;
}

static void put_byte(bytes *b, u8 value) { put(b, &value, 1); }

static void put_varint(bytes *b, u64 value) {
    while (value > 0x7f) {
        put_byte(b, (u8)(value | 0x80));
        value >>= 7;
    }
    put_byte(b, (u8)value);
}

static void put_field(bytes *b, u32 number, const void *data, size_t length) {
    put_varint(b, number << 3 | 2);
    put_varint(b, length);
    put(b, data, length);
}

static void drop_memory(bytes *b) {
    free(b->at);
    memset(b, 0, sizeof *b);
}

/* Names and versions, each kept once for all drones, by number. Number 0 is nothing. */
static struct {
    const u8 **at;
    u32 *length;
    u32 count, room, *slots, slot_room;
} texts;

static u64 hash_of(const u8 *data, size_t length) {
    u64 h = 1469598103934665603u;
    for (size_t i = 0; i < length; i++) h = (h ^ data[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static u32 text_of(const u8 *data, size_t length) {
    if (texts.count * 2 >= texts.slot_room) {
        u32 room = texts.slot_room ? texts.slot_room * 2 : 65536;
        u32 *slots = calloc(room, sizeof *slots);
        if (!slots) die("no memory");
        for (u32 i = 1; i <= texts.count; i++) {
            u32 s = (u32)hash_of(texts.at[i], texts.length[i]) & (room - 1);
            while (slots[s]) s = (s + 1) & (room - 1);
            slots[s] = i;
        }
        free(texts.slots);
        texts.slots = slots;
        texts.slot_room = room;
    }
    u32 s = (u32)hash_of(data, length) & (texts.slot_room - 1);
    for (; texts.slots[s]; s = (s + 1) & (texts.slot_room - 1)) {
        u32 i = texts.slots[s];
        if (texts.length[i] == length && !memcmp(texts.at[i], data, length)) return i;
    }
    if (texts.count + 2 > texts.room) {
        texts.room = texts.room ? texts.room * 2 : 4096;
        texts.at = realloc(texts.at, texts.room * sizeof *texts.at);
        texts.length = realloc(texts.length, texts.room * sizeof *texts.length);
        if (!texts.at || !texts.length) die("no memory");
    }
    u8 *copy = malloc(length + 1);
    if (!copy) die("no memory");
    memcpy(copy, data, length);
    u32 i = ++texts.count;
    texts.at[i] = copy;
    texts.length[i] = (u32)length;
    texts.slots[s] = i;
    return i;
}

/* What a drone has of one type: name -> version. A name whose version is 0 was asked for and not answered. */
typedef struct {
    u32 *names, *versions, room, count, unanswered;
    u32 nonce, whole_version;
    int asked; /* 1 when it was, 2 when there was an answer */
} table;

static u32 *entry(table *t, u32 name, int make) {
    if (make && t->count * 2 >= t->room) {
        table bigger = *t;
        bigger.room = t->room ? t->room * 2 : 16;
        bigger.names = calloc(bigger.room, sizeof *bigger.names);
        bigger.versions = calloc(bigger.room, sizeof *bigger.versions);
        if (!bigger.names || !bigger.versions) die("no memory");
        for (u32 i = 0; i < t->room; i++) {
            if (!t->names[i]) continue;
            u32 s = t->names[i] * 2654435761u & (bigger.room - 1);
            while (bigger.names[s]) s = (s + 1) & (bigger.room - 1);
            bigger.names[s] = t->names[i];
            bigger.versions[s] = t->versions[i];
        }
        free(t->names);
        free(t->versions);
        *t = bigger;
    }
    if (!t->room) return NULL;
    u32 s = name * 2654435761u & (t->room - 1);
    while (t->names[s] && t->names[s] != name) s = (s + 1) & (t->room - 1);
    if (!t->names[s]) {
        if (!make) return NULL;
        t->names[s] = name;
        t->versions[s] = 0;
        t->count++;
    }
    return &t->versions[s];
}

enum { CDS, EDS, LDS, RDS, TYPES };
static const char *TYPE_URL[TYPES] = {
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
};

/* Versions that stand for "answered: there is none", and for "not wanted any more". */
static u32 NONE;
#define GONE 0xffffffffu

typedef struct {
    int fd, connected, handshaken, opened, failed, marked, synced, wants_write;
    SSL *ssl;
    SSL_CTX *context;
    bytes node, token, in, message, out;
    size_t sent;
    u64 to_give_back;
    table types[TYPES];
    u64 synced_at, marked_at, not_before;
} drone;

static drone *drones;
static u32 drone_count, wanted, poll_fd, in_progress;
static int delta, plain;
static u32 window = 256u << 20;
static struct sockaddr_storage address;
static socklen_t address_length;
static const char *host_name, *server_name;
static u8 *mark;
static size_t mark_length;
static u64 got_bytes, sent_bytes, got_messages, failures;

/* HTTP/2 and gRPC, as much as a client of one stream needs. */
static void put_frame(bytes *b, u8 kind, u8 flags, u32 stream, const void *payload, size_t length) {
    u8 head[9] = {(u8)(length >> 16), (u8)(length >> 8), (u8)length, kind, flags, (u8)(stream >> 24), (u8)(stream >> 16), (u8)(stream >> 8), (u8)stream};
    put(b, head, 9);
    put(b, payload, length);
}

static void put_message(drone *d, const bytes *message) {
    bytes whole = {0};
    u8 head[5] = {0, (u8)(message->length >> 24), (u8)(message->length >> 16), (u8)(message->length >> 8), (u8)message->length};
    put(&whole, head, 5);
    put(&whole, message->at, message->length);
    for (size_t at = 0; at < whole.length; at += 16384) {
        size_t length = whole.length - at < 16384 ? whole.length - at : 16384;
        put_frame(&d->out, 0, 0, 1, whole.at + at, length);
    }
    drop_memory(&whole);
}

static void put_prefixed(bytes *b, const char *text, size_t length) {
    if (length < 0x7f) {
        put_byte(b, (u8)length);
    } else {
        put_byte(b, 0x7f);
        put_varint(b, length - 0x7f);
    }
    put(b, text, length);
}

static void put_header(bytes *b, const char *name, const char *value, size_t length) {
    put_byte(b, 0);
    put_prefixed(b, name, strlen(name));
    put_prefixed(b, value, length);
}

static void open_stream(drone *d) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    put(&d->out, preface, 24);
    u8 settings[6] = {0, 4, (u8)(window >> 24), (u8)(window >> 16), (u8)(window >> 8), (u8)window};
    put_frame(&d->out, 4, 0, 0, settings, 6);
    u32 more = window - 65535;
    u8 update[4] = {(u8)(more >> 24), (u8)(more >> 16), (u8)(more >> 8), (u8)more};
    if (more) put_frame(&d->out, 8, 0, 0, update, 4);
    bytes block = {0};
    const char *path = delta ? "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
                             : "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    put_byte(&block, 0x83);
    put_byte(&block, plain ? 0x86 : 0x87);
    put_header(&block, ":path", path, strlen(path));
    put_header(&block, ":authority", server_name, strlen(server_name));
    put_header(&block, "te", "trailers", 8);
    put_header(&block, "content-type", "application/grpc", 16);
    if (d->token.length) {
        bytes bearer = {0};
        put(&bearer, "Bearer ", 7);
        put(&bearer, d->token.at, d->token.length);
        put_header(&block, "authorization", (const char *)bearer.at, bearer.length);
        drop_memory(&bearer);
    }
    put_frame(&d->out, 1, 4, 1, block.at, block.length);
    drop_memory(&block);
}

/* Requests. */
static void put_names(bytes *b, u32 field, const table *t, int versions) {
    for (u32 i = 0; i < t->room; i++) {
        u32 n = t->names[i];
        if (!n || t->versions[i] == GONE) continue;
        if (!versions) {
            put_field(b, field, texts.at[n], texts.length[n]);
        } else if (t->versions[i] && t->versions[i] != NONE) {
            bytes pair = {0};
            put_field(&pair, 1, texts.at[n], texts.length[n]);
            put_field(&pair, 2, texts.at[t->versions[i]], texts.length[t->versions[i]]);
            put_field(b, field, pair.at, pair.length);
            drop_memory(&pair);
        }
    }
}

static void ask_first(drone *d, int type) {
    bytes r = {0};
    table *t = &d->types[type];
    int by_name = type == EDS || type == RDS;
    if (by_name && !t->count) return;
    t->asked = 1;
    if (delta) {
        if (type == CDS) put_field(&r, 1, d->node.at, d->node.length);
        put_field(&r, 2, TYPE_URL[type], strlen(TYPE_URL[type]));
        if (by_name) put_names(&r, 3, t, 0);
        put_names(&r, 5, t, 1);
    } else {
        if (type == CDS) put_field(&r, 2, d->node.at, d->node.length);
        if (t->nonce) put_field(&r, 1, texts.at[t->whole_version], texts.length[t->whole_version]);
        if (by_name) put_names(&r, 3, t, 0);
        put_field(&r, 4, TYPE_URL[type], strlen(TYPE_URL[type]));
        if (t->nonce) put_field(&r, 5, texts.at[t->nonce], texts.length[t->nonce]);
    }
    put_message(d, &r);
    drop_memory(&r);
}

typedef struct {
    const u8 *at;
    size_t length;
} slice;

static void acknowledge(drone *d, int type, slice version, slice nonce) {
    bytes r = {0};
    if (delta) {
        put_field(&r, 2, TYPE_URL[type], strlen(TYPE_URL[type]));
        put_field(&r, 6, nonce.at, nonce.length);
    } else {
        d->types[type].nonce = text_of(nonce.at, nonce.length);
        d->types[type].whole_version = text_of(version.at, version.length);
        put_field(&r, 1, version.at, version.length);
        if (type == EDS || type == RDS) put_names(&r, 3, &d->types[type], 0);
        put_field(&r, 4, TYPE_URL[type], strlen(TYPE_URL[type]));
        put_field(&r, 5, nonce.at, nonce.length);
    }
    put_message(d, &r);
    drop_memory(&r);
}

/* Protobuf, read from the outside: calls back for each field that holds bytes; numbers are passed with at == NULL. */
typedef struct {
    slice left;
    u32 number;
    u64 value;
    slice body;
    int is_bytes;
} reader;

static int next_field(reader *r) {
    const u8 *p = r->left.at, *end = p + r->left.length;
    u64 key = 0;
    for (int shift = 0; p < end; shift += 7) {
        key |= (u64)(*p & 0x7f) << shift;
        if (!(*p++ & 0x80)) break;
    }
    if (p >= end) return 0;
    r->number = (u32)(key >> 3);
    r->is_bytes = 0;
    r->value = 0;
    switch (key & 7) {
    case 0:
        for (int shift = 0; p < end; shift += 7) {
            r->value |= (u64)(*p & 0x7f) << shift;
            if (!(*p++ & 0x80)) break;
        }
        break;
    case 1: p += 8; break;
    case 5: p += 4; break;
    case 2: {
        u64 length = 0;
        for (int shift = 0; p < end; shift += 7) {
            length |= (u64)(*p & 0x7f) << shift;
            if (!(*p++ & 0x80)) break;
        }
        if (length > (u64)(end - p)) return 0;
        r->is_bytes = 1;
        r->body = (slice){p, length};
        p += length;
        break;
    }
    default: return 0;
    }
    if (p > end) return 0;
    r->left = (slice){p, (size_t)(end - p)};
    return 1;
}

static slice field_of(slice message, u32 number) {
    reader r = {.left = message};
    slice found = {NULL, 0};
    while (next_field(&r))
        if (r.number == number && r.is_bytes) found = r.body;
    return found;
}

/* Names that the drone has to ask for now. */
typedef struct {
    u32 names[65536], count;
} fresh_names;
static fresh_names fresh;

static void need(table *t, slice name) {
    if (!name.length) return;
    u32 n = text_of(name.at, name.length), before = t->count;
    u32 *have = entry(t, n, 1);
    if (t->count != before || *have == GONE) {
        *have = 0;
        t->unanswered++;
        if (fresh.count < 65536) fresh.names[fresh.count++] = n;
    }
}

static void needs_of_cluster(drone *d, slice cluster) {
    reader r = {.left = cluster};
    slice name = {NULL, 0}, eds = {NULL, 0};
    int is_eds = 0;
    while (next_field(&r)) {
        if (r.number == 1) name = r.body;
        if (r.number == 2 && !r.is_bytes) is_eds = r.value == 3;
        if (r.number == 3) eds = r.body;
    }
    if (!is_eds) return;
    slice service = eds.at ? field_of(eds, 2) : (slice){NULL, 0};
    need(&d->types[EDS], service.length ? service : name);
}

static void needs_of_chain(drone *d, slice chain) {
    reader filters = {.left = chain};
    while (next_field(&filters)) {
        if (filters.number != 3 || !filters.is_bytes) continue;
        slice any = field_of(filters.body, 4), url = any.at ? field_of(any, 1) : (slice){NULL, 0};
        if (!url.at || !memmem(url.at, url.length, "HttpConnectionManager", 21)) continue;
        slice rds = field_of(field_of(any, 2), 3);
        if (rds.at) need(&d->types[RDS], field_of(rds, 2));
    }
}

static void needs_of_listener(drone *d, slice listener) {
    reader r = {.left = listener};
    while (next_field(&r))
        if ((r.number == 3 || r.number == 25) && r.is_bytes) needs_of_chain(d, r.body);
}

static void ask_fresh(drone *d, int type) {
    if (!fresh.count) return;
    if (!d->types[type].asked || !delta) {
        ask_first(d, type);
    } else {
        bytes r = {0};
        put_field(&r, 2, TYPE_URL[type], strlen(TYPE_URL[type]));
        for (u32 i = 0; i < fresh.count; i++) put_field(&r, 3, texts.at[fresh.names[i]], texts.length[fresh.names[i]]);
        put_message(d, &r);
        drop_memory(&r);
    }
    fresh.count = 0;
}

static void learn(drone *d, int type, slice name, slice version) {
    table *t = &d->types[type];
    u32 n = text_of(name.at, name.length), before = t->count;
    u32 *have = entry(t, n, 1);
    /* An answer that crossed the end of its subscription begins no other. */
    if (t->count == before && *have == GONE) return;
    if (t->count == before && !*have && t->unanswered) t->unanswered--;
    *have = version.length ? text_of(version.at, version.length) : NONE;
}

/* A cluster has gone: its endpoints are of no interest any more. */
static void unsubscribe(drone *d, slice name) {
    u32 *have = entry(&d->types[EDS], text_of(name.at, name.length), 0);
    if (!have || *have == GONE) return;
    if (!*have && d->types[EDS].unanswered) d->types[EDS].unanswered--;
    *have = GONE;
    if (!d->types[EDS].asked) return; /* Whoever has just come back does not ask for it, then. */
    bytes r = {0};
    put_field(&r, 2, TYPE_URL[EDS], strlen(TYPE_URL[EDS]));
    put_field(&r, 4, name.at, name.length);
    put_message(d, &r);
    drop_memory(&r);
}

static void check_synced(drone *d) {
    int all = d->types[CDS].asked == 2 && d->types[LDS].asked == 2 && !d->types[EDS].unanswered && !d->types[RDS].unanswered;
    if (all && !d->synced) d->synced_at = now_ns();
    d->synced = all;
}

static void take_message(drone *d, slice m) {
    got_messages++;
    if (mark_length && !d->marked && memmem(m.at, m.length, mark, mark_length)) {
        d->marked = 1;
        d->marked_at = now_ns();
    }
    slice url = {NULL, 0}, nonce = {NULL, 0}, version = {NULL, 0};
    reader r = {.left = m};
    while (next_field(&r)) {
        if (r.number == 4 && r.is_bytes) url = r.body;
        if (r.number == 5 && r.is_bytes) nonce = r.body;
        if (r.number == 1 && r.is_bytes) version = r.body;
    }
    int type = 0;
    while (type < TYPES && (strlen(TYPE_URL[type]) != url.length || memcmp(TYPE_URL[type], url.at, url.length))) type++;
    if (type == TYPES) return;
    fresh.count = 0;
    r = (reader){.left = m};
    while (next_field(&r)) {
        if (!r.is_bytes) continue;
        if (r.number == 2) {
            slice name, body, own;
            if (delta) {
                slice any = field_of(r.body, 2);
                own = field_of(r.body, 1);
                name = field_of(r.body, 3);
                body = any.at ? field_of(any, 2) : any;
            } else {
                own = version;
                body = field_of(r.body, 2);
                name = field_of(body, 1);
            }
            if (!name.at) continue;
            learn(d, type, name, own);
            if (type == CDS) needs_of_cluster(d, body);
            if (type == LDS) needs_of_listener(d, body);
        }
        if (r.number == 6 && delta) {
            learn(d, type, r.body, (slice){NULL, 0});
            if (type == CDS) unsubscribe(d, r.body);
        }
    }
    acknowledge(d, type, version, nonce);
    int first = d->types[type].asked != 2;
    d->types[type].asked = 2;
    if (type == CDS) {
        if (first && d->types[EDS].count) {
            fresh.count = 0;
            ask_first(d, EDS);
        }
        ask_fresh(d, EDS);
        if (first) ask_first(d, LDS);
    }
    if (type == LDS) {
        if (first && d->types[RDS].count) {
            fresh.count = 0;
            ask_first(d, RDS);
        }
        ask_fresh(d, RDS);
    }
    check_synced(d);
}

/* Sockets. */
static void watch(drone *d, int operation) {
    struct epoll_event e = {.events = EPOLLIN | (d->wants_write ? EPOLLOUT : 0), .data.u32 = (u32)(d - drones)};
    epoll_ctl((int)poll_fd, operation, d->fd, &e);
}

static void cut(drone *d, int failed) {
    if (d->fd < 0) return;
    if (!d->handshaken && in_progress) in_progress--;
    if (d->ssl) SSL_free(d->ssl);
    close(d->fd);
    d->ssl = NULL;
    d->fd = -1;
    d->connected = d->handshaken = d->opened = 0;
    d->in.length = d->message.length = d->out.length = d->sent = 0;
    d->to_give_back = 0;
    if (failed) {
        d->failed = 1;
        d->not_before = now_ns() + 200000000u;
        failures++;
    }
}

static void start(drone *d) {
    d->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (d->fd < 0) die("no socket: raise the limit of open files (ulimit -n)");
    int one = 1;
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in *to = (struct sockaddr_in *)&address;
    if (address.ss_family == AF_INET && (ntohl(to->sin_addr.s_addr) >> 24) == 127) {
        /* On loopback, many source addresses: one has but 28,000 ports. */
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000002u + (u32)(d - drones) / 1000);
        int later = 1;
        setsockopt(d->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &later, sizeof later);
        if (bind(d->fd, (struct sockaddr *)&from, sizeof from)) die("cannot bind a loopback address");
    }
    in_progress++;
    d->failed = 0;
    d->wants_write = 1;
    if (connect(d->fd, (struct sockaddr *)&address, address_length) && errno != EINPROGRESS) {
        cut(d, 1);
        return;
    }
    watch(d, EPOLL_CTL_ADD);
}

static void begin_stream(drone *d) {
    d->handshaken = 1;
    in_progress--;
    open_stream(d);
    for (int type = 0; type < TYPES; type++) d->types[type].asked = 0;
    ask_first(d, CDS);
}

static void flush(drone *d) {
    while (d->sent < d->out.length) {
        ssize_t n;
        if (d->ssl) {
            n = SSL_write(d->ssl, d->out.at + d->sent, (int)(d->out.length - d->sent));
            if (n <= 0) {
                int error = SSL_get_error(d->ssl, (int)n);
                if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) break;
                cut(d, 1);
                return;
            }
        } else {
            n = send(d->fd, d->out.at + d->sent, d->out.length - d->sent, MSG_NOSIGNAL);
            if (n < 0) {
                if (errno == EAGAIN) break;
                cut(d, 1);
                return;
            }
        }
        d->sent += (size_t)n;
        sent_bytes += (u64)n;
    }
    int waiting = d->sent < d->out.length;
    if (!waiting) {
        d->out.length = d->sent = 0;
        if (d->out.room > 65536) drop_memory(&d->out);
    }
    if (waiting != d->wants_write) {
        d->wants_write = waiting;
        watch(d, EPOLL_CTL_MOD);
    }
}

static void take_data(drone *d, const u8 *data, size_t length) {
    d->to_give_back += length;
    if (d->to_give_back >= window / 2) {
        u32 more = (u32)d->to_give_back;
        u8 update[4] = {(u8)(more >> 24), (u8)(more >> 16), (u8)(more >> 8), (u8)more};
        put_frame(&d->out, 8, 0, 0, update, 4);
        put_frame(&d->out, 8, 0, 1, update, 4);
        d->to_give_back = 0;
    }
    put(&d->message, data, length);
    size_t at = 0;
    while (d->message.length - at >= 5) {
        const u8 *p = d->message.at + at;
        size_t size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (d->message.length - at - 5 < size) break;
        take_message(d, (slice){p + 5, size});
        at += 5 + size;
    }
    if (at == d->message.length) {
        d->message.length = 0;
        if (d->message.room > 65536) drop_memory(&d->message);
    } else if (at) {
        memmove(d->message.at, d->message.at + at, d->message.length - at);
        d->message.length -= at;
    }
}

static void take_frames(drone *d) {
    size_t at = 0;
    while (d->in.length - at >= 9) {
        const u8 *p = d->in.at + at;
        size_t length = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        if (d->in.length - at - 9 < length) break;
        u8 kind = p[3], flags = p[4];
        const u8 *body = p + 9;
        at += 9 + length;
        if (kind == 0) {
            if (flags & 8) {
                take_data(d, body + 1, length - 1 - body[0]);
            } else {
                take_data(d, body, length);
            }
        } else if (kind == 4 && !(flags & 1)) {
            put_frame(&d->out, 4, 1, 0, NULL, 0);
        } else if (kind == 6 && !(flags & 1)) {
            put_frame(&d->out, 6, 1, 0, body, length);
        } else if (kind == 7 || kind == 3 || (kind == 1 && flags & 1)) {
            if (getenv("DRONES_VERBOSE")) fprintf(stderr, "drone %ld: ended by frame %d: %.*s\n", (long)(d - drones), kind, (int)length, body);
            cut(d, 1);
            return;
        }
    }
    if (at) memmove(d->in.at, d->in.at + at, d->in.length - at);
    d->in.length -= at;
}

static void readable(drone *d) {
    static u8 piece[65536];
    for (int rounds = 0; rounds < 16; rounds++) {
        ssize_t n;
        if (d->ssl) {
            n = SSL_read(d->ssl, piece, sizeof piece);
            if (n <= 0) {
                int error = SSL_get_error(d->ssl, (int)n);
                if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) break;
                cut(d, 1);
                return;
            }
        } else {
            n = recv(d->fd, piece, sizeof piece, 0);
            if (n < 0 && errno == EAGAIN) break;
            if (n <= 0) {
                cut(d, 1);
                return;
            }
        }
        got_bytes += (u64)n;
        put(&d->in, piece, (size_t)n);
        take_frames(d);
        if (d->fd < 0) return;
    }
    flush(d);
}

static void happened(drone *d) {
    if (d->fd < 0) return;
    if (!d->connected) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            cut(d, 1);
            return;
        }
        d->connected = 1;
        if (!plain) {
            d->ssl = SSL_new(d->context);
            SSL_set_fd(d->ssl, d->fd);
            SSL_set_tlsext_host_name(d->ssl, server_name);
            SSL_set1_host(d->ssl, server_name);
            SSL_set_connect_state(d->ssl);
            SSL_set_mode(d->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
        }
    }
    if (!d->handshaken) {
        if (d->ssl) {
            int n = SSL_do_handshake(d->ssl);
            if (n != 1) {
                int error = SSL_get_error(d->ssl, n), write = error == SSL_ERROR_WANT_WRITE;
                if (error != SSL_ERROR_WANT_READ && !write) {
                    if (getenv("DRONES_VERBOSE")) ERR_print_errors_fp(stderr);
                    cut(d, 1);
                    return;
                }
                if (write != d->wants_write) {
                    d->wants_write = write;
                    watch(d, EPOLL_CTL_MOD);
                }
                return;
            }
        }
        begin_stream(d);
        flush(d);
        if (d->fd < 0) return;
    }
    readable(d);
}

static void turn(int milliseconds) {
    struct epoll_event events[256];
    int n = epoll_wait((int)poll_fd, events, 256, milliseconds);
    for (int i = 0; i < n; i++) happened(&drones[events[i].data.u32]);
}

static int by_time(const void *a, const void *b) {
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

static void report(int marks) {
    u64 *times = calloc(wanted + 1, sizeof *times);
    u32 count = 0;
    for (u32 i = 0; i < wanted; i++) {
        drone *d = &drones[i];
        if (marks ? d->marked : d->synced) times[count++] = marks ? d->marked_at : d->synced_at;
    }
    qsort(times, count, sizeof *times, by_time);
    if (!count) times[0] = 0;
    u32 last = count ? count - 1 : 0;
    printf("done %u %lu %lu %lu %lu %u\n", wanted, times[0], times[last / 2], times[(u64)last * 99 / 100], times[last], wanted - count);
    fflush(stdout);
    free(times);
}

/* Until all are there, or the time is over; a drone that failed is tried again. */
static void until_all(int marks, u32 enough, u32 at_once, double seconds) {
    u64 end = now_ns() + (u64)(seconds * 1e9);
    for (;;) {
        u32 there = 0;
        for (u32 i = 0; i < wanted; i++) {
            drone *d = &drones[i];
            if (d->fd < 0 && in_progress < at_once && now_ns() >= d->not_before) start(d);
            there += (u32)(d->fd >= 0 && (marks ? d->marked : d->synced));
        }
        if (there >= (enough ? enough : wanted) || now_ns() > end) break;
        for (int i = 0; i < 8; i++) turn(i ? 0 : 5);
    }
    report(marks);
}

static bytes field_from(FILE *file) {
    u8 head[4];
    bytes b = {0};
    if (fread(head, 1, 4, file) != 4) return b;
    u32 length = head[0] | (u32)head[1] << 8 | (u32)head[2] << 16 | (u32)head[3] << 24;
    reserve(&b, length + 1);
    if (fread(b.at, 1, length, file) != length) die("the specification is cut short");
    b.length = length;
    b.at[length] = 0;
    return b;
}

static SSL_CTX *context_for(const char *roots, const char *pem) {
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    if (!c || SSL_CTX_load_verify_locations(c, roots, NULL) != 1) die("the roots cannot be read");
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(c, (const u8 *)"\x02h2", 3);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    if (*pem && (SSL_CTX_use_certificate_chain_file(c, pem) != 1 || SSL_CTX_use_PrivateKey_file(c, pem, SSL_FILETYPE_PEM) != 1))
        die("a client certificate cannot be read");
    return c;
}

static void read_specification(const char *path, const char *roots) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    char *last_pem = NULL;
    SSL_CTX *last = NULL;
    for (;;) {
        bytes node = field_from(file);
        if (!node.at) break;
        drones = realloc(drones, (drone_count + 1) * sizeof *drones);
        if (!drones) die("no memory");
        drone *d = &drones[drone_count++];
        memset(d, 0, sizeof *d);
        d->fd = -1;
        d->node = node;
        d->token = field_from(file);
        bytes pem = field_from(file);
        if (plain) continue;
        /* Drones of one identity come one after another, and share a context. */
        if (!last_pem || strcmp(last_pem, (char *)pem.at)) {
            last = context_for(roots, (char *)pem.at);
            last_pem = (char *)pem.at;
        }
        d->context = last;
    }
    fclose(file);
}

static void storm(u32 at_once, double seconds) {
    for (u32 i = 0; i < wanted; i++) {
        drone *d = &drones[i];
        cut(d, 0);
        d->synced = 0;
        for (int type = 0; type < TYPES; type++) {
            table *t = &d->types[type];
            t->nonce = 0;
            if (!delta) {
                t->unanswered = t->count;
                memset(t->versions, 0, t->room * sizeof *t->versions);
            }
        }
    }
    until_all(0, 0, at_once, seconds);
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: drones HOST PORT SERVER_NAME ROOTS.pem SPEC delta|sotw WINDOW_BYTES\n");
        return 2;
    }
    /* A connection that the other end has closed is one drone's trouble: it comes again. */
    signal(SIGPIPE, SIG_IGN);
    host_name = arguments[1];
    server_name = arguments[3];
    plain = !*arguments[4];
    delta = !strcmp(arguments[6], "delta");
    window = (u32)atol(arguments[7]);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host_name, arguments[2], &hints, &found)) die("no such host");
    memcpy(&address, found->ai_addr, found->ai_addrlen);
    address_length = found->ai_addrlen;
    NONE = text_of((const u8 *)"", 0);
    poll_fd = (u32)epoll_create1(EPOLL_CLOEXEC);
    read_specification(arguments[5], arguments[4]);
    printf("ready %u\n", drone_count);
    fflush(stdout);
    fcntl(0, F_SETFL, O_NONBLOCK);
    char line[4096];
    size_t length = 0;
    for (;;) {
        ssize_t n = read(0, line + length, sizeof line - 1 - length);
        if (n == 0) return 0;
        if (n > 0) length += (size_t)n;
        line[length] = 0;
        char *end = strchr(line, '\n');
        if (!end) {
            turn(5);
            continue;
        }
        *end = 0;
        char text[2048];
        u32 number, at_once;
        double seconds;
        if (sscanf(line, "connect %u %u %lf", &number, &at_once, &seconds) == 3) {
            wanted = number < drone_count ? number : drone_count;
            until_all(0, 0, at_once, seconds);
        } else if (sscanf(line, "expect %2047s", text) == 1) {
            free(mark);
            mark = (u8 *)strdup(text);
            mark_length = strlen(text);
            for (u32 i = 0; i < drone_count; i++) drones[i].marked = 0;
            printf("expecting\n");
            fflush(stdout);
        } else if (sscanf(line, "wait %u %lf", &number, &seconds) == 2) {
            until_all(1, number, 64, seconds);
        } else if (sscanf(line, "storm %u %lf", &at_once, &seconds) == 2) {
            storm(at_once, seconds);
        } else if (!strcmp(line, "stats")) {
            struct rusage used;
            getrusage(RUSAGE_SELF, &used);
            u32 synced = 0;
            for (u32 i = 0; i < wanted; i++) synced += (u32)drones[i].synced;
            printf("stats %lu %lu %lu %lu %u %.3f\n", got_bytes, sent_bytes, got_messages, failures, synced,
                   (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
            fflush(stdout);
        } else {
            printf("unknown command\n");
            fflush(stdout);
        }
        size_t used_up = (size_t)(end - line) + 1;
        memmove(line, line + used_up, length - used_up);
        length -= used_up;
    }
}
