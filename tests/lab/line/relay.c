/*
 * Copyright (c) 2026, kvmops.cluster contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 *   relay TAP TAP SOCKET RATE_BIT_S DELAY_US QUEUE_US
 *
 * The line between two sites: what one TAP device takes from its bridge leaves the other one later. Each direction is
 * a line of its own: a packet waits until those before it have been sent at the rate, and arrives the delay after that.
 * One that would have to wait longer than the queue allows is dropped, as by a router. Rate 0 is no limit.
 *
 * IPv4 passes, and nothing else, so that the counters of bytes are those of the hosts' own traffic. ARP passes at once
 * and is never cut: real sites have routers, whose addresses are known whatever happens to the line.
 *
 * Whoever connects to SOCKET sends one line and gets one line, a JSON object with settings and counters:
 *   show
 *   set RATE_BIT_S DELAY_US QUEUE_US
 *   cut drop|reset DOWN_MS UP_MS TOTAL_MS   down, up, down, … for so long; UP_MS 0: only down; TOTAL_MS 0: until mend
 *   mend
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 2048, BATCH = 64, WORDS_SIZE = 256, MOST_HELD = 256 << 20 };
/* Packets that are due within this time leave together: a sleep for each would cost more than all the rest. */
enum { TOGETHER_NS = 200000, PATIENCE_NS = 500000000 };

struct packet {
    struct packet *next;
    uint64_t due_ns;
    uint32_t size;
    unsigned char data[];
};

struct direction {
    int from, to;
    struct packet *first, **last;
    uint64_t free_ns; /* when all that was accepted will have been sent */
    uint64_t held;    /* bytes in the queue and on the way */
    uint64_t bytes, packets, dropped;
};

struct cut {
    int active, reset;
    uint64_t since_ns, down_ns, up_ns, total_ns;
};

static struct direction directions[2];
static struct cut cut;
static uint64_t rate_bit_s, delay_ns, queue_ns;

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int is_down(uint64_t now)
{
    if (!cut.active)
        return 0;
    uint64_t since = now - cut.since_ns;
    if (cut.total_ns && since >= cut.total_ns)
        return cut.active = 0;
    return !cut.up_ns || since % (cut.down_ns + cut.up_ns) < cut.down_ns;
}

/* ---- the two directions ------------------------------------------------------------------------------------------ */

static void send_frame(int fd, const void *frame, size_t size)
{
    /* A full device is a lost packet, as on a cable. */
    ssize_t done = write(fd, frame, size);
    (void)done;
}

static void enter(struct direction *way, const unsigned char *frame, uint32_t size, uint64_t now)
{
    uint64_t start = way->free_ns > now ? way->free_ns : now;
    struct packet *packet;
    if ((rate_bit_s && start - now > queue_ns) || way->held > MOST_HELD || !(packet = malloc(sizeof *packet + size))) {
        way->dropped++;
        return;
    }
    way->free_ns = start + (rate_bit_s ? size * 8000000000u / rate_bit_s : 0);
    packet->next = NULL;
    packet->due_ns = way->free_ns + delay_ns;
    packet->size = size;
    memcpy(packet->data, frame, size);
    *way->last = packet;
    way->last = &packet->next;
    way->held += size;
}

static void leave(struct direction *way, uint64_t now)
{
    int down = is_down(now);
    while (way->first && way->first->due_ns <= now + TOGETHER_NS) {
        struct packet *packet = way->first;
        if (!(way->first = packet->next))
            way->last = &way->first;
        way->held -= packet->size;
        if (down)
            way->dropped++;
        else {
            way->bytes += packet->size;
            way->packets++;
            send_frame(way->to, packet->data, packet->size);
        }
        free(packet);
    }
    if (!way->first && way->free_ns < now)
        way->free_ns = now;
}

/* ---- a cut that both ends notice --------------------------------------------------------------------------------- */

static uint32_t sum(uint32_t total, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i + 1 < size; i += 2)
        total += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    return total;
}

static uint16_t folded(uint32_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return htons((uint16_t)~total);
}

struct reset_frame {
    struct ether_header ether;
    struct iphdr ip;
    struct tcphdr tcp;
} __attribute__((packed));

/* Send a reset to `fd`, in the name of the other end. */
static void send_reset(int fd, struct reset_frame *frame)
{
    struct { uint32_t from, to; uint16_t protocol, size; } pseudo = {
        frame->ip.saddr, frame->ip.daddr, htons(IPPROTO_TCP), htons(sizeof frame->tcp)};
    frame->ether.ether_type = htons(ETHERTYPE_IP);
    frame->ip.version = 4;
    frame->ip.ihl = 5;
    frame->ip.ttl = 64;
    frame->ip.protocol = IPPROTO_TCP;
    frame->ip.tot_len = htons(sizeof frame->ip + sizeof frame->tcp);
    frame->ip.check = folded(sum(0, &frame->ip, sizeof frame->ip));
    frame->tcp.rst = 1;
    frame->tcp.doff = 5;
    frame->tcp.check = folded(sum(sum(0, &pseudo, sizeof pseudo), &frame->tcp, sizeof frame->tcp));
    send_frame(fd, frame, sizeof *frame);
}

/*
 * Answer the sender, whose number to expect next is known exactly, and tell the receiver. That one takes a reset only
 * with the number that it waits for; to any other it answers with that number, and so gets the right reset next.
 */
static void reject(struct direction *way, const unsigned char *data, uint32_t size)
{
    const struct ether_header *ether = (const void *)data;
    const struct iphdr *ip = (const void *)(data + sizeof *ether);
    uint32_t head = sizeof *ether + ip->ihl * 4u;
    const struct tcphdr *tcp = (const void *)(data + head);
    struct reset_frame back = {0}, on = {0};
    if (size < head + sizeof *tcp || ip->protocol != IPPROTO_TCP || tcp->rst)
        return;
    memcpy(back.ether.ether_dhost, ether->ether_shost, ETH_ALEN);
    memcpy(back.ether.ether_shost, ether->ether_dhost, ETH_ALEN);
    back.ip.saddr = ip->daddr;
    back.ip.daddr = ip->saddr;
    back.tcp.source = tcp->dest;
    back.tcp.dest = tcp->source;
    back.tcp.seq = tcp->ack ? tcp->ack_seq : 0;
    if (!tcp->ack) {
        back.tcp.ack = 1;
        back.tcp.ack_seq = htonl(ntohl(tcp->seq) + 1);
    }
    send_reset(way->from, &back);
    if (tcp->syn)
        return;
    on.ether = *ether;
    on.ip.saddr = ip->saddr;
    on.ip.daddr = ip->daddr;
    on.tcp.source = tcp->source;
    on.tcp.dest = tcp->dest;
    on.tcp.seq = tcp->seq;
    send_reset(way->to, &on);
}

static void take(struct direction *way)
{
    unsigned char frame[FRAME];
    uint64_t now = now_ns();
    int down = is_down(now);
    for (int i = 0; i < BATCH; i++) {
        ssize_t size = read(way->from, frame, sizeof frame);
        if (size < 0 && errno != EAGAIN)
            die("read");
        if (size < (ssize_t)sizeof(struct ether_header))
            return;
        uint16_t type = ntohs(((struct ether_header *)frame)->ether_type);
        if (type == ETHERTYPE_ARP)
            send_frame(way->to, frame, (size_t)size);
        else if (type != ETHERTYPE_IP || size < (ssize_t)(sizeof(struct ether_header) + sizeof(struct iphdr)))
            continue;
        else if (!down)
            enter(way, frame, (uint32_t)size, now);
        else {
            way->dropped++;
            if (cut.reset)
                reject(way, frame, (uint32_t)size);
        }
    }
}

/* ---- orders ------------------------------------------------------------------------------------------------------ */

static void obey(const char *words)
{
    unsigned long long a, b, c;
    char how[16];
    if (sscanf(words, "set %llu %llu %llu", &a, &b, &c) == 3) {
        rate_bit_s = a;
        delay_ns = b * 1000;
        queue_ns = c * 1000;
        /* What waits keeps its time; what comes next must not wait for a rate that is gone. */
        for (int i = 0; i < 2; i++)
            directions[i].free_ns = 0;
    } else if (sscanf(words, "cut %15s %llu %llu %llu", how, &a, &b, &c) == 4) {
        cut = (struct cut){1, !strcmp(how, "reset"), now_ns(), a * 1000000, b * 1000000, c * 1000000};
    } else if (!strncmp(words, "mend", 4)) {
        cut.active = 0;
    }
}

static void answer(int fd)
{
    char words[WORDS_SIZE + 1] = {0}, out[512];
    ssize_t size = recv(fd, words, WORDS_SIZE, 0);
    if (size <= 0)
        return;
    obey(words);
    int length = snprintf(out, sizeof out,
        "{\"rate_bit_s\": %llu, \"delay_us\": %llu, \"queue_us\": %llu, \"down\": %s, \"cut\": %s,"
        " \"bytes\": [%llu, %llu], \"packets\": [%llu, %llu], \"dropped\": [%llu, %llu]}\n",
        (unsigned long long)rate_bit_s, (unsigned long long)delay_ns / 1000, (unsigned long long)queue_ns / 1000,
        is_down(now_ns()) ? "true" : "false", cut.active ? "true" : "false",
        (unsigned long long)directions[0].bytes, (unsigned long long)directions[1].bytes,
        (unsigned long long)directions[0].packets, (unsigned long long)directions[1].packets,
        (unsigned long long)directions[0].dropped, (unsigned long long)directions[1].dropped);
    send(fd, out, (size_t)length, MSG_NOSIGNAL);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int open_tap(const char *name)
{
    struct ifreq wanted = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(wanted.ifr_name, sizeof wanted.ifr_name, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &wanted) < 0)
        die(name);
    return fd;
}

static int listen_at(const char *path)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(place.sun_path, sizeof place.sun_path, "%s", path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&place, sizeof place) < 0 || listen(fd, 8) < 0)
        die(path);
    return fd;
}

/* Guests under emulation take every processor: without priority, the line would be as late as they are busy. */
static void hurry(void)
{
    struct sched_param urgent = {.sched_priority = 10};
    prctl(PR_SET_TIMERSLACK, 1ul);
    if (sched_setscheduler(0, SCHED_FIFO, &urgent) < 0)
        setpriority(PRIO_PROCESS, 0, -20);
}

/* How long nothing is due, as poll wants it; NULL for ever. */
static struct timespec *until(uint64_t due, struct timespec *left)
{
    uint64_t now = now_ns();
    for (int i = 0; i < 2; i++)
        if (directions[i].first && directions[i].first->due_ns < due)
            due = directions[i].first->due_ns;
    if (due == UINT64_MAX)
        return NULL;
    uint64_t wait = due > now ? due - now : 0;
    *left = (struct timespec){(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    return left;
}

/* One caller at a time; one that says nothing is let go. */
static void serve(int *caller, uint64_t deadline, int door, const struct pollfd *ready)
{
    if (*caller < 0) {
        if (ready[2].revents)
            *caller = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } else if (ready[3].revents || now_ns() >= deadline) {
        answer(*caller);
        close(*caller);
        *caller = -1;
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: relay TAP TAP SOCKET RATE_BIT_S DELAY_US QUEUE_US\n");
        return 2;
    }
    int first = open_tap(argv[1]), second = open_tap(argv[2]), door = listen_at(argv[3]), caller = -1;
    uint64_t deadline = UINT64_MAX;
    rate_bit_s = strtoull(argv[4], NULL, 10);
    delay_ns = strtoull(argv[5], NULL, 10) * 1000;
    queue_ns = strtoull(argv[6], NULL, 10) * 1000;
    directions[0] = (struct direction){.from = first, .to = second, .last = &directions[0].first};
    directions[1] = (struct direction){.from = second, .to = first, .last = &directions[1].first};
    hurry();
    for (;;) {
        struct pollfd ready[4] = {
            {first, POLLIN, 0}, {second, POLLIN, 0}, {caller < 0 ? door : -1, POLLIN, 0}, {caller, POLLIN, 0}};
        struct timespec left;
        if (ppoll(ready, 4, until(deadline, &left), NULL) < 0)
            die("poll");
        for (int i = 0; i < 2; i++)
            if (ready[i].revents)
                take(&directions[i]);
        for (int i = 0; i < 2; i++)
            leave(&directions[i], now_ns());
        int before = caller;
        serve(&caller, deadline, door, ready);
        if (caller != before)
            deadline = caller < 0 ? UINT64_MAX : now_ns() + PATIENCE_NS;
    }
}
