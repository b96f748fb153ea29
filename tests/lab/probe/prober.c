/*
 * Copyright (c) 2026, kvmops.cluster contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 *   prober PERIOD_US OUTPUT ADDRESS...
 *
 * Sends one datagram to every guest in every period and appends a binary record (protocol.h) to OUTPUT for each answer.
 * It computes nothing: what counts as downtime is decided by whoever reads the file, also while it is being written.
 * It ends on SIGTERM, on SIGINT, or when its standard input is closed, so that it cannot outlive the test that began it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../guest/agent/protocol.h"

enum { MOST_GUESTS = 256, FLUSH_NS = 50000000 };

static volatile sig_atomic_t stopping;
static struct sockaddr_in guests[MOST_GUESTS];
static uint64_t sent[MOST_GUESTS];
static int guest_count;
static FILE *output;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int guest_at(const struct sockaddr_in *address)
{
    for (int i = 0; i < guest_count; i++)
        if (guests[i].sin_addr.s_addr == address->sin_addr.s_addr)
            return i;
    return -1;
}

static void ask_all(int fd, uint64_t sequence)
{
    for (int i = 0; i < guest_count; i++) {
        struct request q = {.magic = PROTOCOL_MAGIC, .sequence = sequence, .sent_ns = now_ns()};
        /* A guest without a neighbour entry makes this fail or queue; either way it is a probe without an answer. */
        sendto(fd, &q, sizeof q, MSG_DONTWAIT, (struct sockaddr *)&guests[i], sizeof guests[i]);
        sent[i]++;
    }
}

static void collect(int fd)
{
    for (;;) {
        struct reply r;
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, &r, sizeof r, MSG_DONTWAIT, (struct sockaddr *)&from, &size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        int guest = got == sizeof r && r.magic == PROTOCOL_MAGIC ? guest_at(&from) : -1;
        if (guest < 0)
            continue;
        struct record record = {
            .guest = (uint32_t)guest, .kind = RECORD_ANSWER, .sent_ns = r.sent_ns, .received_ns = now_ns(),
            .boot_id = r.boot_id, .pages_written = r.pages_written, .pages_bad = r.pages_bad + r.disk_bad,
            .disk_errors = r.disk_errors,
        };
        fwrite(&record, sizeof record, 1, output);
    }
}

static void write_totals(void)
{
    for (int i = 0; i < guest_count; i++) {
        struct record record = {
            .guest = (uint32_t)i, .kind = RECORD_SENT, .sent_ns = now_ns(), .received_ns = sent[i],
        };
        fwrite(&record, sizeof record, 1, output);
    }
    fflush(output);
}

static void wait_until(int fd, uint64_t when)
{
    for (uint64_t now = now_ns(); now < when && !stopping; now = now_ns()) {
        struct pollfd watched[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        struct timespec left = {0, (long)(when - now)};
        if (ppoll(watched, 2, &left, NULL) > 0) {
            char byte;
            if (watched[0].revents)
                collect(fd);
            if (watched[1].revents && read(0, &byte, 1) <= 0)
                stopping = 1;
        }
    }
}

/* With two busy cores an ordinary process is late by tens of milliseconds; that would be measured as downtime. */
static void be_punctual(void)
{
    struct sched_param priority = {.sched_priority = 5};
    if (sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
        fprintf(stderr, "prober: no real-time priority (%s): expect a coarser resolution\n", strerror(errno));
    mlockall(MCL_CURRENT | MCL_FUTURE);
}

int main(int argc, char **argv)
{
    int buffer = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (argc < 4 || argc - 3 > MOST_GUESTS || fd < 0) {
        fprintf(stderr, "usage: prober PERIOD_US OUTPUT ADDRESS...\n");
        return 2;
    }
    uint64_t period = strtoull(argv[1], NULL, 10) * 1000;
    output = fopen(argv[2], "wb");
    if (!output || period < 100000 || period > 999000000) {
        fprintf(stderr, "prober: cannot use period %s us with output %s\n", argv[1], argv[2]);
        return 2;
    }
    for (int i = 3; i < argc; i++, guest_count++) {
        guests[guest_count] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PROTOCOL_PORT)};
        if (inet_pton(AF_INET, argv[i], &guests[guest_count].sin_addr) != 1) {
            fprintf(stderr, "prober: %s is not an IPv4 address\n", argv[i]);
            return 2;
        }
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    be_punctual();
    uint64_t next = now_ns(), flushed = next;
    for (uint64_t sequence = 0; !stopping; sequence++) {
        ask_all(fd, sequence);
        if (now_ns() - flushed > FLUSH_NS) {
            write_totals();
            flushed = now_ns();
        }
        next += period;
        /* After a pause of the whole machine go on from here; a burst of late probes would prove nothing. */
        if (next + period < now_ns())
            next = now_ns() + period;
        wait_until(fd, next);
    }
    collect(fd);
    write_totals();
    return fclose(output) ? 1 : 0;
}
