/*
 * Copyright (c) 2026, kvmops.cluster contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What agent, prober and the Python side (protocol.py) say to each other. Little-endian, no padding.
 * There is one request and one reply: whoever asks for anything learns everything.
 */
#ifndef LAB_PROTOCOL_H
#define LAB_PROTOCOL_H

#include <stdint.h>

#define PROTOCOL_MAGIC 0x424c564bu /* "KVLB" */
#define PROTOCOL_VERSION 1u
#define PROTOCOL_PORT 7

struct request {
    uint32_t magic;
    uint32_t verify_token; /* not 0: check everything, and show this number in *_token when done */
    uint64_t sequence;
    uint64_t sent_ns;
} __attribute__((packed));

struct reply {
    uint32_t magic;
    uint32_t version;
    uint64_t sequence;
    uint64_t sent_ns;
    uint64_t guest_ns;
    uint64_t boot_id;
    uint64_t pages_touched;
    uint64_t pages_total;
    uint64_t pages_written;
    uint64_t pages_dropped;
    uint64_t pages_verified;
    uint64_t pages_bad;
    uint64_t disk_written;
    uint64_t disk_verified;
    uint64_t disk_bad;
    uint64_t disk_errors;
    uint64_t memory_checked;
    uint64_t memory_found_bad;
    uint64_t disk_checked;
    uint64_t disk_found_bad;
    uint32_t memory_token;
    uint32_t disk_token;
    uint32_t has_disk;
    uint32_t disk_slowest_ms; /* the longest that one read or write has taken */
} __attribute__((packed));

/* One line of the prober's record file. */
enum record_kind { RECORD_ANSWER = 1, RECORD_SENT = 2 };

struct record {
    uint32_t guest; /* position on the prober's command line */
    uint32_t kind;
    uint64_t sent_ns;
    uint64_t received_ns; /* RECORD_SENT: how many were sent until now */
    uint64_t boot_id;
    uint64_t pages_written;
    uint64_t pages_bad;
    uint64_t disk_errors;
} __attribute__((packed));

#endif
