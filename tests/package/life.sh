# What a user does with the package, and what there is after each step: test_deb.py reads the lines. Run by `inside`.
set -u
say() { printf '== %s\n' "$*"; }
kernel() { # what minipod may have left in the kernel, in /run and as processes
    ls /run/netns
    ls /sys/class/net | grep -v '^lo$'
    nft list tables
    find /sys/fs/cgroup -maxdepth 2 -name minipod
    ls -d /run/minipod 2>/dev/null
    grep -v ' /var/lib/minipod ' /proc/self/mountinfo | grep minipod
}

say install
dpkg -i /deb/old.deb >/dev/null || exit 1
minipod version
minipod run -d /usr/share/doc/minipod/examples/localhost.yaml --until ready
minipod get pods --no-headers
say upgrade
dpkg -i /deb/new.deb >/dev/null || exit 1
minipod version
minipod get pods --no-headers
say remove
dpkg -r minipod || exit 1
say left
kernel
say "after remove"
ls -d /etc/minipod/config.toml /var/lib/minipod/minipod.db /usr/lib/minipod 2>/dev/null
say "install again"
dpkg -i /deb/new.deb >/dev/null || exit 1
minipod get pods --no-headers
say purge
dpkg -P minipod >/dev/null || exit 1
kernel
ls -A /var/lib/minipod
ls -d /etc/minipod /usr/lib/minipod /usr/bin/minipod /var/log/pods 2>/dev/null
dpkg-query -W minipod 2>/dev/null
say end
