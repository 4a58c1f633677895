#!/bin/sh
# private-libvirtd.sh FOLDER RUN: libvirtd with folders of its own in place of the system's.
# Runs inside `unshare --mount`: nobody else sees these mounts, and they end with libvirtd and its guests.
set -eu
for place in etc var/lib var/log var/cache; do
    mkdir -p "/$place/libvirt"
    mount --bind "$1/${place##*/}" "/$place/libvirt"
done
mkdir -p /run/libvirt
mount --bind "$2" /run/libvirt
exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid
