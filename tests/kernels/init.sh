#!/bin/busybox sh
# The first process of a guest. It tells the host on the device $report (set on the kernel's command line), in blocks that begin with
# "@@ WORD NAME", so that the kernel's own messages, which go to the console, cannot fall between.
#
# The scenario is sourced at the end. Its words:
#   hvo 0|1              the switch hugetlb_optimize_vmemmap
#   pool N               nr_hugepages of the default size
#   pool_of 2048kB N     the same of another size
#   snap NAME            print the counters, and the switch where there is one
#   capture NAME COMMAND run it, print its standard output, its standard error and its status
#   ask NAME ARGUMENT... capture the command hvo of the disk image with these arguments, then take a snapshot of the same name
#   in_image COMMAND     run it inside the disk image, which has /bin/python and /bin/hvo
#   $bb APPLET           busybox
bb=/bin/busybox
switch=/proc/sys/vm/hugetlb_optimize_vmemmap
export PATH=/bin
$bb mkdir -p /proc /sys /dev /tmp /huge /image
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
$bb mount -t debugfs debugfs /sys/kernel/debug
exec > "$report" 2> /dev/console
for module in /modules/*; do
  if [ -f "$module" ]; then $bb insmod "$module"; fi
done
if [ -b /dev/vda ]; then
  $bb mount -t ext4 -o ro /dev/vda /image
  for name in proc sys dev; do $bb mount --bind /$name /image/$name; done
  for name in tmp run; do $bb mount -t tmpfs tmpfs /image/$name; done
fi

snap() {
  echo "@@ snapshot $1"
  $bb cat /proc/meminfo
  $bb grep memmap /proc/vmstat
  $bb grep -H . /sys/kernel/mm/hugepages/*/nr_hugepages /sys/kernel/mm/hugepages/*/free_hugepages \
    /sys/kernel/mm/hugepages/*/surplus_hugepages
  if [ -e $switch ]; then echo "hugetlb_optimize_vmemmap $($bb cat $switch)"; fi
}
capture() {
  echo "@@ capture $1"
  named=$1
  shift
  "$@" > /tmp/output 2> /tmp/errors  # through files: what prints sees no terminal
  status=$?
  $bb cat /tmp/output
  echo
  echo "@@ errors $named"
  $bb cat /tmp/errors
  echo
  echo "@@ status $status"
}
in_image() { $bb chroot /image "$@"; }
ask() {
  asked=$1
  shift
  capture "$asked" in_image /bin/hvo "$@"
  snap "$asked"
}
hvo() { echo "$1" > $switch; }
pool() { echo "$1" > /proc/sys/vm/nr_hugepages; }
pool_of() { echo "$2" > "/sys/kernel/mm/hugepages/hugepages-$1/nr_hugepages"; }

echo "@@ kernel $($bb uname -r)"
snap boot
. /scenario
snap end
echo "@@ ready"
while :; do $bb sleep 1000; done
