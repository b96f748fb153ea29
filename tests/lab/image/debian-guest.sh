#!/bin/sh
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Make a freshly bootstrapped Debian into the lab's Debian guest; run in its own root, with /proc and /dev/shm mounted.
# What differs from guest to guest (address, ssh key) comes at boot, as credentials of systemd.
set -e
install() { apt-get install --yes --no-install-recommends "$@"; }

# Bytes that no guest of the lab ever reads would be copied with every disk. LLVM is a third of them: it serves only the
# database's just-in-time compiler, which is off below.
cat >>/etc/dpkg/dpkg.cfg.d/lab <<EOF
path-exclude=/usr/share/i18n/*
path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM*
path-exclude=/usr/lib/x86_64-linux-gnu/libz3*
EOF
# A ramdisk with the drivers that this machine needs, and no others: without KVM, each MiB of it delays the boot.
mkdir -p /etc/initramfs-tools/conf.d
echo MODULES=list >/etc/initramfs-tools/conf.d/lab
printf 'virtio_pci\nvirtio_blk\next4\n' >/etc/initramfs-tools/modules
apt-get update
install initramfs-tools postgresql-common openssh-server qemu-guest-agent systemd-boot-efi e2fsprogs
# The pages of the database have checksums, so that a page that was damaged on the way is found.
sed -i "s/^#*initdb_options.*/initdb_options = '--data-checksums --wal-segsize=4'/" /etc/postgresql-common/createcluster.conf
grep -q "^initdb_options = '--data-checksums --wal-segsize=4'" /etc/postgresql-common/createcluster.conf
install linux-image-cloud-amd64 postgresql

version=$(pg_lsclusters --no-header | awk '{print $1}')
cluster="$version main"
pg_conftool $cluster set listen_addresses '*'
pg_conftool $cluster set shared_buffers 16MB
pg_conftool $cluster set max_connections 20
pg_conftool $cluster set jit off
pg_conftool $cluster set min_wal_size 16MB
pg_conftool $cluster set max_wal_size 64MB
printf 'local all all trust\nhost all all 198.18.0.0/15 trust\n' >"/etc/postgresql/$version/main/pg_hba.conf"
pg_ctlcluster $cluster start
# bench is what pgbench works on; journal is what a client outside writes, row by row.
createdb --username=postgres bench
psql --username=postgres --quiet bench -c 'CREATE EXTENSION amcheck' \
    -c 'CREATE TABLE journal (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())'
"/usr/lib/postgresql/$version/bin/pgbench" --username=postgres --initialize --quiet --scale=1 bench
pg_ctlcluster $cluster stop

cat >/etc/systemd/system/pgbench.service <<EOF
[Unit]
Description=A database at work
After=postgresql@$version-main.service
Requires=postgresql@$version-main.service

[Service]
User=postgres
ExecStart=/usr/lib/postgresql/$version/bin/pgbench --no-vacuum --client=2 --rate=10 --time=864000 bench
Restart=on-failure

[Install]
WantedBy=multi-user.target
EOF
# It is the last to start: a guest that answers is a guest whose database is at work.
cat >/etc/systemd/system/lab-agent.service <<'EOF'
[Unit]
Description=Memory that the lab can check, and answers on UDP port 7
After=network.target ssh.service pgbench.service

[Service]
ImportCredential=lab.agent
ExecStart=/bin/sh -c 'exec /usr/local/bin/lab-agent $(cat "$CREDENTIALS_DIRECTORY/lab.agent")'
Restart=always

[Install]
WantedBy=multi-user.target
EOF
systemctl enable lab-agent.service pgbench.service systemd-networkd.service systemd-network-generator.service ssh.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer logrotate.timer systemd-networkd-wait-online.service
printf 'PermitRootLogin yes\nUsePAM no\nUseDNS no\n' >/etc/ssh/sshd_config.d/10-lab.conf
echo 'LABEL=lab-root / ext4 defaults 0 1' >/etc/fstab
echo debian >/etc/hostname
# Without an identity, a boot is the first one, which takes longer.
echo 6b766d6f70730000000000000000001a >/etc/machine-id
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
