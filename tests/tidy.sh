#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# tests/tidy.sh [BUILDDIR]: the house rules that a program can check. Prints
# "file:line: reason" for each breach; fails if there is one. BUILDDIR (.) is
# where the libraries are that nm looks into.
set -u
build=$(cd "${1:-.}" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2

line_columns_max=100
function_lines_max=70
file_lines_max=700
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
found=$scratch/found

# ---- what there is ----

sources=$(ls common/*.[ch] nbd-client/*.[ch])
contracts=$(ls include/*.h)
tests=$(find tests -name '*.[ch]' ! -path '*/build/*' | sort)
scripts=$(find tests .ci systemd -type f ! -name '*.[cho]' ! -path '*/build/*' \
	-exec awk 'FNR == 1 && /^#!.*[\/ ](ba)?sh/ { print FILENAME }' {} + |
	sort)

# "FILE LAYER" for each file of the libraries, out of Makefile.am; the program
# itself is above all of them.
awk '
	/^libl[0-9]+_a_SOURCES = / { layer = substr($1, 5) + 0; next }
	layer != "" && /\.[ch]( |$)/ { print $1, layer }
	!/\\$/ { layer = "" }
	END { print "nbd-client/main.c", 99 }
' Makefile.am >"$scratch/layers"

# Each source as code only: comments and the inside of literals are blanks.
strip() {
	awk '
	{
		line = $0
		out = ""
		while (line != "") {
			if (comment) {
				end = index(line, "*/")
				if (!end)
					break
				line = substr(line, end + 2)
				comment = 0
				continue
			}
			two = substr(line, 1, 2)
			one = substr(line, 1, 1)
			if (two == "/*") {
				comment = 1
				line = substr(line, 3)
				continue
			}
			if (two == "//")
				break
			if ((one == "\"" && line !~ /^"[^"]*\.h"/ &&
			     match(line, /^"([^"\\]|\\.)*"/)) ||
			    (one == "\047" &&
			     match(line, /^\047([^\047\\]|\\.)*\047/))) {
				out = out one one
				line = substr(line, RLENGTH + 1)
				continue
			}
			out = out one
			line = substr(line, 2)
		}
		print out
	}' "$1"
}
for file in $sources $contracts $tests; do
	mkdir -p "$scratch/code/${file%/*}"
	strip "$file" >"$scratch/code/$file"
done

# ---- length of lines, functions and files; white space; licence ----

for file in $sources $contracts $tests $scripts; do
	awk -v file="$file" -v file_max=$file_lines_max \
		-v function_max=$function_lines_max \
		-v columns_max=$line_columns_max '
		function breach(reason) { print file ":" FNR ": " reason }
		FILENAME ~ /\.[ch]$/ {
			line = $0
			gsub(/"([^"\\]|\\.)*"/, "", line)
			columns = 0
			n = split(line, field, "\t")
			for (i = 1; i < n; i++)
				columns += length(field[i]) + 8 - \
					   (columns + length(field[i])) % 8
			columns += length(field[n])
			if (columns > columns_max)
				breach("line of " columns " columns")
			if (/^        /)
				breach("indented with spaces")
		}
		/[ \t]$/ { breach("white space at the end") }
		FNR <= 2 && /SPDX-License-Identifier: GPL-2.0-or-later/ {
			spdx = 1
		}
		/^\{$/ { start = FNR }
		/^\}/ && start {
			if (FNR - start + 1 > function_max)
				printf "%s:%d: function of %d lines, more than %d\n",
					file, start, FNR - start + 1, function_max
			start = 0
		}
		END {
			if (!spdx)
				print file ":1: no SPDX-License-Identifier"
			if (FNR > file_max)
				printf "%s:%d: file of %d lines, more than %d\n",
					file, FNR, FNR, file_max
		}' "$file"
done >>"$found"

# ---- layers: includes go downward or sideways ----

(
	cd "$scratch/code" || exit
	# shellcheck disable=SC2086 # lists
	awk -v layers="$scratch/layers" '
		function base(path) { sub(/.*\//, "", path); return path }
		BEGIN {
			while ((getline line < layers) > 0) {
				split(line, field, " ")
				layer[field[1]] = field[2]
				known[base(field[1])] = field[1]
			}
		}
		FNR == 1 {
			contract = FILENAME ~ /^include\//
			if (!contract && !(FILENAME in layer))
				print FILENAME ":1: in no layer of Makefile.am"
		}
		/^#[ \t]*include[ \t]*"/ {
			split($0, part, "\"")
			to = part[2]
			if (to ~ /^tests\//)
				print FILENAME ":" FNR ": includes a test"
			if (to !~ /\// && !contract && known[to])
				to = known[to]
			if (!(to in layer))
				next
			if (contract && layer[to] > 0)
				print FILENAME ":" FNR \
					": a contract includes " to
			else if (!contract && layer[to] > layer[FILENAME])
				print FILENAME ":" FNR ": layer " \
					layer[FILENAME] " includes " to \
					" of layer " layer[to]
		}' $sources $contracts
) >>"$found"

# ---- calls that are not made ----

# banned WHERE REGEX REASON: WHERE is a list of files.
banned() {
	(
		cd "$scratch/code" || exit
		# shellcheck disable=SC2086 # a list
		awk -v bad="(^|[^A-Za-z0-9_>.])($2)[ \t]*\\\\(" -v why="$3" '
			$0 ~ bad { print FILENAME ":" FNR ": " why }' $1
	) >>"$found"
}
in_layers() { awk -v max="$1" '$2 <= max { print $1 }' "$scratch/layers"; }
all_but() { printf '%s\n' "$sources" | grep -vx "$1"; }

banned "$sources $contracts $tests" \
	'strcpy|strcat|stpcpy|sprintf|vsprintf|gets|strtok|mktemp|tmpnam' \
	'call without a bound'
banned "$sources $contracts" 'alloca' 'size of the stack is not bounded'
banned "$sources $contracts" 'system|popen' 'runs a shell'
banned "$(all_but nbd-client/main.c)" 'exit|quick_exit' 'only main exits'
allocating='malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf'
allocating="$allocating|vasprintf|getline|getdelim|posix_memalign|aligned_alloc"
allocating="$allocating|memalign|valloc|pvalloc|open_memstream|fmemopen"
banned "$(in_layers 3 | grep -vx common/guard.c)" "$allocating" \
	'memory is carved at start, not allocated'

# ---- what the objects of the data path refer to ----

# The malloc family, stdio, logs, name resolution, locks, whatever waits, files,
# processes and threads; fortified names too. guard.o is what watches malloc, so
# it may know it; a ring is warmed up on a socketpair of its own.
stdio='f?printf|v[a-z]*printf|dprintf|s?n?printf|fopen|fdopen|fclose|fflush|fputs'
stdio="$stdio|fputc|putc|puts|putchar|fwrite|fread|fgets|fscanf|perror|stdout"
stdio="$stdio|stderr|stdin|v?syslog|openlog|localtime(_r)?|strftime"
resolving='getaddrinfo|freeaddrinfo|gethostbyname|getpwnam|getenv'
locking='pthread_(mutex|cond|rwlock|spin|barrier)_[a-z_]+|pthread_once|sem_[a-z]+'
locking="$locking|(mtx|cnd)_[a-z]+|call_once|flock|lockf"
waiting='(u|nano|clock_nano)?sleep|p?poll|p?select|epoll_p?wait|f(data)?sync|sync'
waiting="$waiting|wait|wait[34]|waitpid|waitid|pthread_(create|join)"
opening='open(at)?(64)?|creat(64)?|opendir|scandir|v?fork|exec[vl]p?e?|fexecve'
opening="$opening|posix_spawnp?|mkstemp(64)?|socket"
bad="^(_*)($allocating|$stdio|$resolving|$locking|$waiting|$opening)(_chk)?\$"
for library in "$build"/libl[123].a; do
	if ! [ -f "$library" ]; then
		echo "tidy: no $library, its objects are not checked" >&2
		continue
	fi
	"${NM:-nm}" -A -u "$library" 2>/dev/null | awk -v bad="$bad" \
		-v layers="$scratch/layers" '
		BEGIN {
			while ((getline line < layers) > 0) {
				split(line, field, " ")
				name = field[1]
				sub(/.*\//, "", name)
				path[name] = field[1]
			}
		}
		{
			symbol = $NF
			sub(/@.*/, "", symbol)
			n = split($1, part, ":")
			object = part[n - 1]
			if (object ~ /^(guard\.o)?$/)
				next
			sub(/\.o$/, ".c", object)
			if (symbol ~ bad)
				print path[object] ":1: object refers to " symbol
		}'
done >>"$found"

# ---- scripts ----

if command -v shellcheck >/dev/null; then
	# The guest harness is one program in several files: what one sets
	# another one reads.
	# shellcheck disable=SC2046 # lists
	{
		shellcheck -x -f gcc \
			$(printf '%s\n' "$scripts" | grep -v '^tests/vm/')
		shellcheck -f gcc -S warning -e SC1091,SC2034,SC2154 -s sh \
			$(printf '%s\n' "$scripts" | grep '^tests/vm/')
	} >>"$found"
else
	echo 'tidy: no shellcheck, scripts are not checked' >&2
fi

cat "$found"
[ ! -s "$found" ]
