#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/test-examples.sh: the examples of each --help and of the manual pages, as
# they stand there, with servers of the names that they use: in name spaces of
# their own, with files of their own in /etc and /run. What would attach is asked
# for --dry-run, and what is about a device finds none. NBD_CLIENT names the
# program. Only root can; 77 otherwise.
# shellcheck disable=SC2317 # called by check
set -u
man=$(realpath "${srcdir:-.}/man")
client=$(realpath "${NBD_CLIENT:-nbd-client/nbd-client}")
for tool in nbdkit openssl unshare ip; do
	command -v $tool >/dev/null || {
		echo "no $tool"
		exit 77
	}
done
if [ "${1-}" != inside ]; then
	unshare --net --mount --pid --fork --mount-proc true 2>/dev/null || {
		echo 'cannot make name spaces, root may'
		exit 77
	}
	exec unshare --net --mount --pid --fork --kill-child --mount-proc \
		sh "$0" inside
fi
dir=$(mktemp -d) || exit 1
# shellcheck source=tests/shell.sh
. "${0%/*}/shell.sh"
trap 'rm -rf "$dir"' EXIT
code=0
count=0

# ---- the place ----

cp -a /etc "$dir/etc" && mount --bind "$dir/etc" /etc &&
	mount -t tmpfs run /run && mount -t tmpfs lib /var/lib || exit 1
mkdir -p "$dir/bin" /var/lib/prometheus/node-exporter /etc/nbd /etc/nbd-client.d
ln -s "$client" "$dir/bin/nbd-client"
PATH=$dir/bin:$PATH
echo '192.0.2.1 server server.example.com gateway1.example.com gateway2.example.com' >/etc/hosts
umask 077
echo alice:00112233445566778899aabbccddeeff >/etc/nbd/keys.psk
umask 022
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
ip addr add 2001:db8::1/128 dev lo nodad
for name in ca server; do
	set -- -subj "/CN=$name"
	[ $name = ca ] || set -- -subj /CN=s -CA "$dir/ca-cert.pem" \
		-CAkey "$dir/ca-key.pem" -addext subjectAltName=DNS:server.example.com
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 "$@" \
		-keyout "$dir/$name-key.pem" -out "$dir/$name-cert.pem" \
		2>"$dir/openssl.log" || {
		cat "$dir/openssl.log"
		exit 1
	}
done
cp "$dir/ca-cert.pem" /etc/nbd-client.d/ca.pem

# ---- examples ----

# try WHERE LINE: an exit status that it is to have, and no other.
try() {
	line=$2
	wanted=0
	case $line in
	*' attach '*) line="$line --dry-run" ;;
	*' bench '*) line="$line --seconds=1" ;;
	*' check'*) wanted='0 1' ;; # whatever this host is
	*' detach --all') ;;
	*' status '* | *' detach '* | *' recover '* | *' reconnect '* | *' upgrade '*)
		wanted=3
		;;
	esac
	count=$((count + 1))
	eval "$line" >"$dir/log" 2>&1 </dev/null
	got=$?
	case " $wanted " in
	*" $got "*) echo "ok - $1: $2" ;;
	*)
		echo "not ok - $1: $2: exit status $got, not $wanted"
		sed 's/^/# /' "$dir/log"
		code=1
		;;
	esac
}

# Lines with a prompt, from the literal blocks of a page; "\e" ends what goes on.
of_page() {
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/p' "$man/$1" |
		sed -e ':a' -e '/\\e$/{N;s/\\e\n *//;ta' -e '}' |
		sed -n 's/^[#$] \(nbd-client .*\)/\1/p'
}
# file_of_page PAGE N: the Nth literal block, which is a file.
file_of_page() {
	sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/p' "$man/$1" | awk -v n="$2" '
		/^\.Bd/ { inside = ++block == n; next }
		/^\.Ed/ { inside = 0 }
		inside'
}

server_start nbd://server/ -i 192.0.2.1 --tls=on --tls-psk=/etc/nbd/keys.psk memory 256M
main=$server
server_start 'nbd://[2001:db8::1]:2000/' -i 2001:db8::1 -p 2000 memory 256M
server_start 'nbd+unix:///?socket=/run/nbd.sock' -U /run/nbd.sock memory 256M
file_of_page nbdtab.5 1 >/etc/nbdtab
for device in nbd0 nbd1 nbd2; do
	try 'nbdtab(5)' "nbd-client attach $device"
done
file_of_page nbd-client.conf.5 2 >/etc/nbd-client.d/nbd3.conf
try 'nbd-client.conf(5)' 'nbd-client attach nbd3'
of_page nbd-client.8 >"$dir/lines"
while read -r line; do
	try 'nbd-client(8)' "$line"
done <"$dir/lines"
for command in $(nbd-client --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
	nbd-client "$command" --help | sed '1,/^Examples:/d' >"$dir/lines"
	[ -s "$dir/lines" ] || {
		echo "not ok - $command --help has no example"
		code=1
	}
	while read -r line; do
		try "$command --help" "$line"
	done <"$dir/lines"
done

# Encrypted in another way; nobody else has the port then.
kill "$main"
wait "$main" 2>/dev/null
cp "$dir/server-cert.pem" "$dir/server-key.pem" "$dir/ca-cert.pem" /etc/nbd
server_start "--tls-ca=$dir/ca-cert.pem nbds://server.example.com/" -i 192.0.2.1 \
	--tls=require --tls-certificates=/etc/nbd memory 256M
file_of_page nbd-client.conf.5 1 >/etc/nbd-client.d/nbd0.conf
try 'nbd-client.conf(5)' 'nbd-client attach nbd0'

# Not all of them lost on the way here.
[ $count -ge 28 ] || {
	echo "not ok - only $count examples"
	code=1
}
exit $code
