
set -eu
: "${AFENV_QEMU:=$qemu}" "${AFENV_VM_MEMORY:=2048}" "${AFENV_VM_CPUS:=$(nproc 2>/dev/null || echo 1)}"
: "${AFENV_VM_ACCELERATOR:=tcg}"
machine=$(cd "$(dirname "$0")" && pwd)
here=$(pwd)
command -v "${AFENV_QEMU%% *}" >/dev/null || { echo "run.sh: there is no $AFENV_QEMU here; install QEMU" >&2; exit 125; }
eval "[ \$# -gt 0 ] || set -- $default"
eval "set -- $before \"\$@\""
terminal=0
[ ! -t 0 ] || [ ! -t 1 ] || terminal=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/control"

quoted() {
    for word; do printf " '"; printf %s "$word" | sed "s/'/'\\\\''/g"; printf "'"; done
}
octal() { # a path in the form that `printf %b` undoes
    printf %s "$1" | od -An -v -to1 | tr -d '\n' | sed 's/ /\\0/g'
}
commas() { # a value in a list of QEMU's options
    printf %s "$1" | sed 's/,/,,/g'
}

# what the machine's first process reads
groups=$(id -G | tr ' ' ,)
echo "$(id -u) $(id -g) $groups $user $home $(uname -n) 0 $terminal" >"$scratch/control/account"
printf 'share0 %s rw -\n' "$(octal "$here")" >"$scratch/control/mounts"
{
    printf 'cd%s || exit 125\n' "$(quoted "$here")"
    if [ $terminal = 1 ]; then
        size=$(stty size)
        [ "${size% *}" = 0 ] || echo "\$B stty rows ${size% *} cols ${size#* }"
        variables="$variables$(quoted "TERM=${TERM:-dumb}")"
    fi
    printf 'exec $B env -i %s\n' "$variables$(quoted "$@")"
} >"$scratch/control/enter"

# the machine
shares() { # TAG FOLDER MORE
    printf %s "local,id=$1,path=$(commas "$2"),security_model=none,multidevs=remap$3"
}
append="console=$console quiet loglevel=3 panic=-1 random.trust_cpu=on $parameters"
case $AFENV_VM_ACCELERATOR in
kvm) board=$board_kvm accelerator=kvm processor=host ;;
*) accelerator=tcg,thread=multi processor=max append="$append mitigations=off" ;;
esac
if [ $terminal = 1 ]; then
    set -- -chardev null,id=input -chardev null,id=output -chardev null,id=errors
    set -- "$@" -chardev stdio,id=terminal,signal=off
else
    set -- -chardev stdio,id=input,signal=off
    for port in output errors; do
        mkfifo "$scratch/$port"
        set -- "$@" -chardev "file,id=$port,path=$(commas "$scratch")/$port"
    done
fi
set -- "$@" -chardev "file,id=control,path=$(commas "$scratch")/said"
set -- "$@" -chardev "file,id=log,path=$(commas "$scratch")/console.log" -serial chardev:log
set -- "$@" -device virtio-serial-pci
for port in control input output errors; do
    set -- "$@" -device "virtserialport,chardev=$port,name=$port"
done
[ $terminal = 0 ] || set -- "$@" -device virtconsole,chardev=terminal
set -- "$@" -fsdev "$(shares control "$scratch/control" ,readonly=on)"
set -- "$@" -device virtio-9p-pci,fsdev=control,mount_tag=control
set -- "$@" -fsdev "$(shares share0 "$here" "")" -device virtio-9p-pci,fsdev=share0,mount_tag=share0
set -- "$@" -drive "file=$(commas "$machine")/root.squashfs,format=raw,if=none,id=root,readonly=on,file.locking=off"
set -- "$@" -device virtio-blk-pci,drive=root
set -- "$@" -nodefaults -no-user-config -display none -no-reboot
set -- "$@" -machine "$board" -accel "$accelerator" -cpu "$processor"
set -- "$@" -smp "$AFENV_VM_CPUS" -m "${AFENV_VM_MEMORY}M"
set -- "$@" -kernel "$machine/kernel" -initrd "$machine/initramfs" -append "$append"

# In the background, so that a signal ends the machine and not this script alone. What it says passes through
# two pipes: QEMU would open /dev/stdout anew, and write over what is in a file.
exec 5<&0
if [ $terminal = 0 ]; then
    exec 3<>"$scratch/output" 4<>"$scratch/errors" 6<"$scratch/output" 7<"$scratch/errors"
    cat <&6 3>&- 4>&- &
    cat <&7 >&2 3>&- 4>&- &
fi
pid='' stopped=''
stop() {
    stopped=$1
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || :
}
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM
$AFENV_QEMU "$@" <&5 3>&- 4>&- &
pid=$!
wait "$pid" || wait "$pid" 2>/dev/null || :
exec 3>&- 4>&-
wait
status=$(sed -n 's/^status //p' "$scratch/said" 2>/dev/null) || :
[ -z "$stopped" ] || exit "$stopped"
if [ -z "$status" ]; then
    echo "run.sh: the machine ended without having run the command" >&2
    tail -n 20 "$scratch/said" "$scratch/console.log" >&2 2>/dev/null || :
    exit 125
fi
exit "$status"
