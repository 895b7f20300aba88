#!/bin/busybox sh
# The first process of a virtual machine: mounts the image and the shared folders, runs one command, tells its
# exit status, and switches the machine off. What to do stands in the shared folder "control":
#   mounts   a line each: TAG TARGET rw|ro NAME; NAME is - for the whole folder
#   account  UID GID GROUPS NAME HOME HOSTNAME NETWORK(0|1) TERMINAL(0|1)
#   enter    a script that becomes the command
# The ports of the machine's serial bus have the names control, input, output and errors.
PATH=/bin
export PATH
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*.ko; do insmod "$module" || echo "cannot load $module"; done
for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name" && ln -s "${port##*/}" "/dev/afenv-$name"
done
failed() {
    echo "afenv: $*"
    echo "failed $*" >&7
    sync
    poweroff -f
}
exec 7<>/dev/afenv-control || failed "no control port"
echo started >&7

share() {
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,cache=$3,access=any" "$1" "$2"
}
share control /control none || failed "the control folder cannot be mounted"
read -r uid gid groups name home host network terminal </control/account
hostname "$host"
ip link set lo up

mount -t squashfs -o ro /dev/vda /lower || failed "the root file system cannot be mounted"
mount -t tmpfs -o mode=755,size=90% memory /memory
mkdir /memory/upper /memory/work
chmod 755 /memory/upper
mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root ||
    failed "the root file system cannot be made writable"

# folders that an image may lack, or have as links to elsewhere
for folder in proc sys dev tmp run var etc; do
    [ ! -L "/root/$folder" ] || [ -d "/root/$folder/" ] || rm "/root/$folder"
    mkdir -p "/root/$folder"
done
mkdir -p /root/var/tmp "/root$home" /root/run/afenv-vm
mount --bind /dev /root/dev
mount -t proc proc /root/proc
mount -t sysfs -o ro sys /root/sys
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o ptmxmode=666,mode=620 devpts /root/dev/pts
ln -sf pts/ptmx /root/dev/ptmx
mount -t tmpfs -o mode=1777 memory /root/dev/shm
ln -sfn /proc/self/fd /root/dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -sfn "/proc/self/fd/${number%%:*}" "/root/dev/${number#*:}"; done
mount -t tmpfs -o mode=1777 memory /root/tmp
mount -t tmpfs -o mode=1777 memory /root/var/tmp
mount -t tmpfs -o mode=700 memory "/root$home"
chown "$uid:$gid" "/root$home"

# the account, in files that must not be links to elsewhere
for file in passwd group; do
    [ -f "/root/etc/$file" ] && [ ! -L "/root/etc/$file" ] || { rm -f "/root/etc/$file"; : >"/root/etc/$file"; }
done
grep -q "^[^:]*:[^:]*:$uid:" /root/etc/passwd || {
    if grep -q "^$name:" /root/etc/passwd; then echo "user$uid:x:$uid:$gid::$home:/bin/sh"
    else echo "$name:x:$uid:$gid::$home:/bin/sh"; fi
} >>/root/etc/passwd
grep -q "^[^:]*:[^:]*:$gid:" /root/etc/group || {
    if grep -q "^$name:" /root/etc/group; then echo "group$gid:x:$gid:"; else echo "$name:x:$gid:"; fi
} >>/root/etc/group
echo "afenv-vm:x:$uid:$gid::$home:/bin/sh" >>/root/etc/passwd
if [ "$groups" != - ]; then
    for one in $(echo "$groups" | tr , ' '); do echo "afenv-vm-$one:x:$one:afenv-vm" >>/root/etc/group; done
fi

if [ "$network" = 1 ]; then
    for device in /sys/class/net/*; do
        device=${device##*/}
        [ "$device" != lo ] || continue
        ip link set "$device" up
        ip addr add 10.0.2.15/24 dev "$device"
        ip route add default via 10.0.2.2
    done
    rm -f /root/etc/resolv.conf
    echo "nameserver 10.0.2.3" >/root/etc/resolv.conf
fi
[ -s /root/etc/hosts ] || { rm -f /root/etc/hosts; echo "127.0.0.1 localhost $host" >/root/etc/hosts; }

chmod 711 /shares
while read -r tag target mode inside; do
    target=$(printf %b "$target")
    inside=$(printf %b "$inside")
    mkdir -p "/shares/$tag"
    share "$tag" "/shares/$tag" mmap || failed "the folder for $target cannot be mounted"
    if [ "$inside" = - ]; then
        mkdir -p "/root$target"
        mount --bind "/shares/$tag" "/root$target" || failed "$target cannot be mounted"
    else
        mkdir -p "/root${target%/*}"
        [ -e "/root$target" ] || [ -d "/shares/$tag/$inside" ] || : >"/root$target"
        [ ! -d "/shares/$tag/$inside" ] || mkdir -p "/root$target"
        mount --bind "/shares/$tag/$inside" "/root$target" || failed "$target cannot be mounted"
    fi
    [ "$mode" = rw ] || mount -o remount,bind,ro "/root$target"
done </control/mounts

# busybox and the script that becomes the command
cp /bin/busybox /control/enter /root/run/afenv-vm/
cat >/root/run/afenv-vm/start <<'END'
#!/run/afenv-vm/busybox sh
B=/run/afenv-vm/busybox
umask 022
. /run/afenv-vm/enter
END
: >/root/run/afenv-vm/why
chmod 755 /root/run/afenv-vm /root/run/afenv-vm/*
chmod 666 /root/run/afenv-vm/why

# The command runs in the foreground: a shell without a terminal lets what is in the background ignore
# interruptions. Its process number is in /pid.
(while read -r signal; do kill "-$signal" "$(cat /pid)" 2>/dev/null; done <&7) &
enter='echo $$ >/pid; exec chroot /root /run/afenv-vm/busybox su -m -s /run/afenv-vm/start afenv-vm'
if [ "$terminal" = 1 ]; then
    setsid -c sh -c "$enter" </root/dev/hvc0 >/root/dev/hvc0 2>&1 7>&-
else
    sh -c "$enter" </root/dev/afenv-input >/root/dev/afenv-output 2>/root/dev/afenv-errors 7>&-
fi
status=$?
[ ! -s /root/run/afenv-vm/why ] || echo "missing $(cat /root/run/afenv-vm/why)" >&7
echo "status $status" >&7
sync
poweroff -f
