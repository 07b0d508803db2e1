// SPDX-License-Identifier: GPL-2.0-or-later
/* Certificates for tests. See test_certs.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/test_certs.h"

static char dir[64];
static pid_t owner;

/* In the directory; openssl of Debian 12 can set dates only through "ca". */
static const char script[] =
	"exec >log 2>&1; set -ex\n"
	"key() { openssl genpkey -algorithm EC"
	" -pkeyopt ec_paramgen_curve:P-256 -out $1; }\n"
	"authority() { key $1-key.pem;"
	" openssl req -x509 -key $1-key.pem -out $1.pem -subj /CN=$1 -days 30; }\n"
	"authority ca; authority other-ca; mv ca.pem ca-cert.pem\n"
	"mkdir server psk db certs; cp ca-cert.pem server\n"
	"printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n"
	"extendedKeyUsage=serverAuth\\n' >server.ext\n"
	"printf 'extendedKeyUsage=clientAuth\\n' >client.ext\n"
	"key server/server-key.pem; key client-key.pem\n"
	"openssl req -new -key server/server-key.pem -out server.csr"
	" -subj '/O=nbd test/CN=server.example'\n"
	"openssl req -new -key client-key.pem -out client.csr -subj /CN=client\n"
	"sign() { openssl x509 -req -in $1.csr -CA ca-cert.pem -CAkey ca-key.pem"
	" -set_serial $3 -days 30 -extfile $1.ext -out $2; }\n"
	"sign server server/server-cert.pem 1; sign client client-cert.pem 2\n"
	"touch index; echo 10 >serial\n"
	"printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\n"
	"new_certs_dir=certs\\ndefault_md=sha256\\npolicy=p\\nunique_subject=no\\n"
	"[p]\\ncommonName=supplied\\norganizationName=optional\\n' >ca.conf\n"
	"dated() { openssl ca -batch -config ca.conf -in server.csr"
	" -cert ca-cert.pem -keyfile ca-key.pem -extfile server.ext"
	" -startdate $2 -enddate $3 -out $1 -notext; }\n"
	"dated expired.pem 20200101000000Z 20200201000000Z\n"
	"dated early.pem 20900101000000Z 20900201000000Z\n"
	"openssl req -x509 -key server/server-key.pem -out self.pem"
	" -subj /CN=localhost -days 30\n"
	"echo alice:0123456789abcdef0123456789abcdef >psk/keys.psk\n"
	"echo alice:ffffffffffffffff0123456789abcdef >psk-wrong\n"
	"(cat psk/keys.psk; echo bob:0123456789abcdef0123456789abcdef) >psk-two\n"
	"openssl pkey -in client-key.pem -aes128 -passout pass:secret"
	" -out locked.pem\n"
	"chmod 640 locked.pem other-ca-key.pem psk/keys.psk psk-wrong psk-two client-key.pem\n"
	/* nbd-server gives up root for a user of its own */
	"chmod 755 . server; chmod 644 server/*\n";

static void clean_up(void)
{
	char command[128];

	if (getpid() != owner)
		return;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		fprintf(stderr, "cannot remove %s\n", dir);
}

static void make(void)
{
	char path[128];
	FILE *file;

	snprintf(dir, sizeof(dir), "/tmp/nbd-certs-XXXXXX");
	assert_non_null(mkdtemp(dir));
	owner = getpid();
	atexit(clean_up);
	snprintf(path, sizeof(path), "%s/make", dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(script, file);
	fclose(file);
	snprintf(path, sizeof(path), "cd %s && sh make", dir);
	if (system(path) != 0) {
		snprintf(path, sizeof(path), "cat %s/log >&2", dir);
		if (system(path) == 0)
			fail_msg("openssl cannot make certificates");
	}
}

const char *test_certs(const char *name)
{
	static char paths[16][128];
	static unsigned int next;
	char *path = paths[next++ % 16];

	if (!dir[0])
		make();
	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}
