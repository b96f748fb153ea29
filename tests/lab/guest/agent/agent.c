/*
 * Copyright (c) 2026, kvmops.cluster contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The only program of a lab guest. It is there to be migrated, and to notice when that went wrong:
 *
 *   - it fills a region of memory with content that can be derived again from (seed, page, generation), rewrites the
 *     hot part of it at a steady rate, and never stops re-reading the rest: a page that came across a migration
 *     stale or torn is counted as bad;
 *   - it does the same with a disk, when it has one;
 *   - it answers every UDP datagram at once with all its counters, so that a prober outside measures at the same time
 *     whether the guest runs, whether its work goes on, and whether its memory is right.
 *
 * The generation of each page is kept in a table of its own, far from the page, so that a page which went back in
 * time does not take the proof with it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>

#include "protocol.h"

enum { PAGE = 4096, WORDS = PAGE / 8, TICK_MS = 10, IDLE_TICK_MS = 100, BACKLOG_MS = 100, MOST_PHASES = 16 };
/* Blocks that are read or written at once where the whole disk is. */
enum { CHUNK = 64 };
/* A page that compresses changes in its first fifth only; the rest repeats one word. */
enum { FRESH_WORDS = WORDS / 5 };

/* What the guest does for so long, before it goes on to the next of its phases. */
struct phase {
    uint64_t ns;
    uint64_t hot_pages;
    uint64_t pages_per_s;
};

struct options {
    uint64_t seed;
    uint64_t touched_pages;
    uint64_t hot_pages;
    uint64_t pages_per_s;
    uint64_t cold_per_s;
    uint64_t verify_per_s;
    uint64_t disk_write_ns; /* one write in this time; 0 for none */
    uint64_t disk_read_ns;
    uint64_t disk_hot_blocks; /* writes go to the first so many; 0 for all */
    int disk_filled;
    int whole;
    int fresh_words;
    int phases;
    struct phase phase[MOST_PHASES];
    const char *disk;
};

static struct options options;
static uint64_t *memory;
static uint32_t *generation;
static uint64_t boot_id;

static _Atomic uint64_t pages_written, pages_dropped, pages_verified, pages_bad, pages_ready;
static _Atomic uint64_t disk_written, disk_verified, disk_bad, disk_errors;
static _Atomic uint32_t disk_slowest_ms;
static _Atomic int disk_ready;
static _Atomic uint32_t wanted_token, memory_token, disk_token;
static _Atomic uint64_t memory_checked, memory_found_bad, disk_checked, disk_found_bad;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Until the first of two moments, and no longer than it may take to see a request. */
static void sleep_until(uint64_t one, uint64_t other)
{
    uint64_t now = now_ns(), next = one < other ? one : other;
    uint64_t ms = next > now ? (next - now) / 1000000 + 1 : 1;
    sleep_ms(ms < IDLE_TICK_MS ? (long)ms : IDLE_TICK_MS);
}

/* splitmix64: cheap under emulation, and its output does not compress. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t stream_of(uint64_t index, uint64_t gen, uint64_t kind)
{
    return mix(options.seed ^ mix(index ^ kind << 56) ^ gen << 32);
}

static uint64_t step(uint64_t x)
{
    return x * 6364136223846793005u + 1442695040888963407u;
}

static void fill(uint64_t *page, uint64_t stream)
{
    for (int i = 0; i < WORDS; i++, stream = i < options.fresh_words ? step(stream) : stream)
        page[i] = stream;
}

static int same(const uint64_t *page, int from, uint64_t stream)
{
    uint64_t difference = 0;
    for (int i = 0; i < WORDS; i++, stream = i < options.fresh_words ? step(stream) : stream)
        if (i >= from)
            difference |= page[i] ^ stream;
    return difference == 0;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static void write_page(uint64_t index)
{
    uint64_t *page = memory + index * WORDS;
    uint64_t stream = stream_of(index, ++generation[index], 0);
    if (options.whole)
        fill(page, stream);
    else
        page[0] = stream;
}

static int page_is_good(uint64_t index)
{
    const uint64_t *page = memory + index * WORDS;
    uint64_t newest = stream_of(index, generation[index], 0);
    if (options.whole)
        return same(page, 0, newest);
    return page[0] == newest && same(page, 1, stream_of(index, 0, 0));
}

static void check_page(uint64_t index)
{
    pages_verified++;
    if (!page_is_good(index))
        pages_bad++;
}

static void touch_all(void)
{
    for (uint64_t i = 0; i < options.touched_pages; i++, pages_ready++)
        fill(memory + i * WORDS, stream_of(i, 0, 0));
}

/* How many pages are due since `since`; what piled up while the guest was stopped is dropped and counted. */
static uint64_t due(uint64_t *since, uint64_t rate)
{
    uint64_t now = now_ns(), waited = now - *since;
    uint64_t count = rate * (waited / 1000) / 1000000;
    uint64_t most = rate * BACKLOG_MS / 1000 + 1;
    if (count == 0)
        return 0;
    *since += count * 1000000000u / rate;
    if (count <= most)
        return count;
    pages_dropped += count - most;
    return most;
}

/* A complete check on request runs in slices between the writes, so that the guest keeps its rate meanwhile. */
static void check_on_request(uint64_t *cursor, uint64_t *bad, uint64_t slice)
{
    uint32_t wanted = wanted_token;
    if (wanted == memory_token)
        return;
    for (; slice && *cursor < options.touched_pages; slice--, ++*cursor)
        if (!page_is_good(*cursor)) {
            pages_bad++;
            ++*bad;
        }
    if (*cursor < options.touched_pages)
        return;
    memory_checked = *cursor;
    memory_found_bad = *bad;
    *cursor = *bad = 0;
    memory_token = wanted;
}

static struct phase phase_at(uint64_t since_start)
{
    uint64_t cycle = 0;
    for (int i = 0; i < options.phases; i++)
        cycle += options.phase[i].ns;
    since_start %= cycle;
    int i = 0;
    while (since_start >= options.phase[i].ns)
        since_start -= options.phase[i++].ns;
    return options.phase[i];
}

/* Whoever watches expects pages_per_s, whatever the phase: a page of a phase with another rate counts by as much. */
static void count_work(uint64_t pages, uint64_t rate)
{
    static uint64_t rest;
    rest += pages * options.pages_per_s;
    pages_written += rest / rate;
    rest %= rate;
}

static void write_hot(struct phase now, uint64_t *clock, uint64_t *next)
{
    uint64_t count = due(clock, now.pages_per_s);
    for (uint64_t n = count; n; n--, ++*next)
        write_page(*next %= now.hot_pages);
    count_work(count, now.pages_per_s);
}

/* Everything that is not hot, one page after the other, slowly. */
static void write_cold(uint64_t *clock, uint64_t *next)
{
    uint64_t count = due(clock, options.cold_per_s);
    for (uint64_t n = count; n; n--, ++*next)
        write_page(options.hot_pages + (*next %= options.touched_pages - options.hot_pages));
    pages_written += count;
}

static void *memory_loop(void *unused)
{
    uint64_t next_hot = 0, next_cold = 0, next_check = 0, cursor = 0, bad = 0;
    int hot = options.hot_pages && options.pages_per_s;
    int cold = options.cold_per_s && options.touched_pages > options.hot_pages;
    touch_all();
    uint64_t start = now_ns(), write_clock = start, cold_clock = start, check_clock = start;
    for (;;) {
        if (hot)
            write_hot(phase_at(now_ns() - start), &write_clock, &next_hot);
        if (cold)
            write_cold(&cold_clock, &next_cold);
        if (options.touched_pages && options.verify_per_s) {
            uint64_t count = options.verify_per_s * ((now_ns() - check_clock) / 1000000) / 1000;
            if (count) {
                check_clock = now_ns();
                for (count = count < 64 ? count : 64; count; count--, next_check = (next_check + 1) % options.touched_pages)
                    check_page(next_check);
            }
        }
        check_on_request(&cursor, &bad, 2048);
        if (wanted_token == memory_token)
            sleep_ms(hot || cold ? TICK_MS : IDLE_TICK_MS);
        else
            sched_yield();
    }
    return unused;
}

/* ---- disk ------------------------------------------------------------------------------------------------------- */

struct disk {
    int fd;
    uint64_t blocks;
    uint32_t *gen; /* generation of each block; 0: never written */
    uint64_t *buffer;
    uint64_t *chunk; /* CHUNK blocks */
};

static void note_latency(uint64_t since)
{
    uint32_t ms = (uint32_t)((now_ns() - since) / 1000000);
    if (ms > disk_slowest_ms)
        disk_slowest_ms = ms;
}

static int read_block(struct disk *disk, uint64_t block)
{
    uint64_t since = now_ns();
    ssize_t got = pread(disk->fd, disk->buffer, PAGE, (off_t)(block * PAGE));
    note_latency(since);
    if (got != PAGE)
        disk_errors++;
    return got == PAGE;
}

static int block_is_known(const struct disk *disk, uint64_t block)
{
    return options.disk_filled || disk->gen[block];
}

static int check_block(struct disk *disk, uint64_t block)
{
    if (!read_block(disk, block))
        return 0;
    disk_verified++;
    return same(disk->buffer, 0, stream_of(block, disk->gen[block], 1));
}

static void write_block(struct disk *disk, uint64_t block)
{
    uint64_t since = now_ns();
    fill(disk->buffer, stream_of(block, disk->gen[block] + 1, 1));
    ssize_t put = pwrite(disk->fd, disk->buffer, PAGE, (off_t)(block * PAGE));
    note_latency(since);
    if (put != PAGE) {
        disk_errors++;
        return;
    }
    disk->gen[block]++;
    disk_written++;
}

/* Content for every block, so that a block which is lost is noticed even if the guest never wrote it since. */
static void fill_disk(struct disk *disk)
{
    for (uint64_t first = 0; first < disk->blocks; first += CHUNK) {
        uint64_t count = disk->blocks - first < CHUNK ? disk->blocks - first : CHUNK;
        for (uint64_t i = 0; i < count; i++)
            fill(disk->chunk + i * WORDS, stream_of(first + i, 0, 1));
        if (pwrite(disk->fd, disk->chunk, count * PAGE, (off_t)(first * PAGE)) != (ssize_t)(count * PAGE))
            disk_errors++;
    }
}

static uint64_t bad_in_chunk(struct disk *disk, uint64_t first, uint64_t count, uint64_t *checked)
{
    uint64_t known = 0, bad = 0;
    for (uint64_t i = 0; i < count; i++)
        known += (uint64_t)block_is_known(disk, first + i);
    if (!known)
        return 0;
    int whole = pread(disk->fd, disk->chunk, count * PAGE, (off_t)(first * PAGE)) == (ssize_t)(count * PAGE);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t block = first + i;
        if (!block_is_known(disk, block))
            continue;
        if (whole) {
            disk_verified++;
            bad += !same(disk->chunk + i * WORDS, 0, stream_of(block, disk->gen[block], 1));
        } else
            bad += !check_block(disk, block);
    }
    *checked += known;
    return bad;
}

static void check_whole_disk(struct disk *disk, uint32_t token)
{
    uint64_t checked = 0, bad = 0;
    for (uint64_t first = 0; first < disk->blocks; first += CHUNK)
        bad += bad_in_chunk(disk, first, disk->blocks - first < CHUNK ? disk->blocks - first : CHUNK, &checked);
    disk_bad += bad;
    disk_checked = checked;
    disk_found_bad = bad;
    disk_token = token;
}

/* Whether the next turn has come; those that were missed are not made up for. */
static int turn(uint64_t *next, uint64_t every)
{
    uint64_t now = now_ns();
    if (!every || now < *next)
        return 0;
    *next = *next + every > now ? *next + every : now + every;
    return 1;
}

static int open_disk(struct disk *disk)
{
    uint64_t bytes = 0;
    disk->fd = open(options.disk, O_RDWR | O_DIRECT);
    if (disk->fd < 0 || ioctl(disk->fd, BLKGETSIZE64, &bytes) < 0 || bytes < PAGE) {
        printf("agent: disk %s: %s\n", options.disk, strerror(errno));
        disk_errors++;
        return 0;
    }
    disk->blocks = bytes / PAGE;
    disk->gen = calloc(disk->blocks, sizeof *disk->gen);
    disk->buffer = aligned_alloc(PAGE, PAGE);
    disk->chunk = aligned_alloc(PAGE, CHUNK * PAGE);
    return 1;
}

static void *disk_loop(void *unused)
{
    struct disk disk;
    uint64_t random = options.seed, next_write = 0, next_read = 0;
    int is_open = open_disk(&disk);
    if (is_open && options.disk_filled)
        fill_disk(&disk);
    disk_ready = 1;
    if (!is_open)
        return unused;
    uint64_t hot = options.disk_hot_blocks && options.disk_hot_blocks < disk.blocks ? options.disk_hot_blocks : disk.blocks;
    for (;;) {
        if (turn(&next_write, options.disk_write_ns))
            write_block(&disk, (random = mix(random)) % hot);
        if (turn(&next_read, options.disk_read_ns)) {
            uint64_t block = (random = mix(random)) % disk.blocks;
            if (block_is_known(&disk, block) && !check_block(&disk, block))
                disk_bad++;
        }
        uint32_t wanted = wanted_token;
        if (wanted != disk_token)
            check_whole_disk(&disk, wanted);
        sleep_until(options.disk_write_ns ? next_write : UINT64_MAX, options.disk_read_ns ? next_read : UINT64_MAX);
    }
}

/* ---- network and console ---------------------------------------------------------------------------------------- */

static void describe(struct reply *r, const struct request *q)
{
    memset(r, 0, sizeof *r);
    r->magic = PROTOCOL_MAGIC;
    r->version = PROTOCOL_VERSION;
    r->sequence = q->sequence;
    r->sent_ns = q->sent_ns;
    r->guest_ns = now_ns();
    r->boot_id = boot_id;
    /* Whoever waits for the guest to be ready waits for its disk too. */
    r->pages_touched = options.disk && !disk_ready ? 0 : (uint64_t)pages_ready;
    r->pages_total = options.touched_pages;
    r->pages_written = pages_written;
    r->pages_dropped = pages_dropped;
    r->pages_verified = pages_verified;
    r->pages_bad = pages_bad;
    r->has_disk = options.disk != NULL;
    r->disk_written = disk_written;
    r->disk_verified = disk_verified;
    r->disk_bad = disk_bad;
    r->disk_errors = disk_errors;
    r->memory_token = memory_token;
    r->memory_checked = memory_checked;
    r->memory_found_bad = memory_found_bad;
    r->disk_token = options.disk ? disk_token : wanted_token;
    r->disk_checked = disk_checked;
    r->disk_found_bad = disk_found_bad;
    r->disk_slowest_ms = disk_slowest_ms;
}

static void *answer_loop(void *unused)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(PROTOCOL_PORT)}, peer;
    struct sched_param urgent = {.sched_priority = 10};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    /* An answer must not wait behind the workload: the prober measures the guest, not its scheduler. */
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &urgent);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0) {
        printf("agent: udp: %s\n", strerror(errno));
        return unused;
    }
    for (;;) {
        struct request q;
        struct reply r;
        socklen_t size = sizeof peer;
        if (recvfrom(fd, &q, sizeof q, 0, (struct sockaddr *)&peer, &size) != sizeof q || q.magic != PROTOCOL_MAGIC)
            continue;
        if (q.verify_token)
            wanted_token = q.verify_token;
        describe(&r, &q);
        sendto(fd, &r, sizeof r, 0, (struct sockaddr *)&peer, size);
    }
}

static uint64_t pick_boot_id(void)
{
    /* The kernel's pool is empty this early; the time-stamp counter alone already differs from boot to boot. */
    uint64_t id = 0;
    if (getrandom(&id, sizeof id, GRND_INSECURE) < 0)
        id = 0;
    return mix(id ^ mix(__builtin_ia32_rdtsc()) ^ (uint64_t)time(NULL));
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

/* The time for one of so many a second, which may be less than one. */
static uint64_t interval_ns(const char *per_s)
{
    double rate = strtod(per_s, NULL);
    return rate > 0 ? (uint64_t)(1e9 / rate) : 0;
}

/* SECONDS:HOT_MIB:PAGES_PER_S,… */
static void parse_phases(char *text)
{
    for (char *rest = text; *rest && options.phases < MOST_PHASES; rest += *rest == ',') {
        struct phase *phase = &options.phase[options.phases++];
        phase->ns = strtoull(rest, &rest, 10) * 1000000000u;
        phase->hot_pages = *rest == ':' ? strtoull(rest + 1, &rest, 10) * 256 : 0;
        phase->pages_per_s = *rest == ':' ? strtoull(rest + 1, &rest, 10) : 0;
    }
}

static void parse(int argc, char **argv)
{
    options.fresh_words = WORDS;
    options.verify_per_s = 64;
    options.disk_write_ns = options.disk_read_ns = 50000000;
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            continue;
        *value++ = 0;
        if (!strcmp(argv[i], "lab.seed"))
            options.seed = number(value);
        else if (!strcmp(argv[i], "lab.touched_mib"))
            options.touched_pages = number(value) * 256;
        else if (!strcmp(argv[i], "lab.hot_mib"))
            options.hot_pages = number(value) * 256;
        else if (!strcmp(argv[i], "lab.pages_per_s"))
            options.pages_per_s = number(value);
        else if (!strcmp(argv[i], "lab.cold_per_s"))
            options.cold_per_s = number(value);
        else if (!strcmp(argv[i], "lab.phases"))
            parse_phases(value);
        else if (!strcmp(argv[i], "lab.content"))
            options.fresh_words = strcmp(value, "compressible") ? WORDS : FRESH_WORDS;
        else if (!strcmp(argv[i], "lab.verify_per_s"))
            options.verify_per_s = number(value);
        else if (!strcmp(argv[i], "lab.pattern"))
            options.whole = !strcmp(value, "whole");
        else if (!strcmp(argv[i], "lab.disk"))
            options.disk = value;
        else if (!strcmp(argv[i], "lab.disk_writes_per_s"))
            options.disk_write_ns = interval_ns(value);
        else if (!strcmp(argv[i], "lab.disk_reads_per_s"))
            options.disk_read_ns = interval_ns(value);
        else if (!strcmp(argv[i], "lab.disk_hot_mib"))
            options.disk_hot_blocks = number(value) * 256;
        else if (!strcmp(argv[i], "lab.disk_filled"))
            options.disk_filled = number(value) != 0;
    }
    if (options.hot_pages > options.touched_pages)
        options.hot_pages = options.touched_pages;
    if (!options.phases)
        options.phase[options.phases++] = (struct phase){1000000000u, options.hot_pages, options.pages_per_s};
}

int main(int argc, char **argv)
{
    pthread_t threads[3];
    setvbuf(stdout, NULL, _IOLBF, 0);
    parse(argc, argv);
    boot_id = pick_boot_id();
    memory = mmap(NULL, options.touched_pages * PAGE + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    generation = calloc(options.touched_pages + 1, sizeof *generation);
    if (memory == MAP_FAILED || !generation) {
        printf("agent: not enough memory for %llu pages\n", (unsigned long long)options.touched_pages);
        return 1;
    }
    /* Small pages only: with huge ones a write of 8 bytes would still be one dirty page, but touching would not. */
    madvise(memory, options.touched_pages * PAGE + PAGE, MADV_NOHUGEPAGE);
    pthread_create(&threads[0], NULL, answer_loop, NULL);
    pthread_create(&threads[1], NULL, memory_loop, NULL);
    if (options.disk)
        pthread_create(&threads[2], NULL, disk_loop, NULL);
    for (uint64_t second = 1;; second++) {
        sleep_ms(1000);
        printf("agent: t=%llu boot=%016llx touched=%llu written=%llu dropped=%llu verified=%llu bad=%llu disk=%llu/%llu/%llu\n",
               (unsigned long long)second, (unsigned long long)boot_id, (unsigned long long)pages_ready,
               (unsigned long long)pages_written, (unsigned long long)pages_dropped,
               (unsigned long long)pages_verified, (unsigned long long)pages_bad,
               (unsigned long long)disk_written, (unsigned long long)disk_bad, (unsigned long long)disk_errors);
    }
}
