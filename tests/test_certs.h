/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Certificates and keys, made by openssl(1) at first use in a directory of this
 * process, removed when it ends.
 *
 *	ca-cert.pem		the authority that signs most of them
 *	server/			for "localhost" and 127.0.0.1, as servers want it
 *	client-cert.pem -key	of a client
 *	locked.pem		that key behind a passphrase
 *	other-ca.pem -key	an authority that has signed none
 *	expired.pem early.pem self.pem	server certificates that are no good
 *	psk/keys.psk		a key of user "alice"
 *	psk-wrong		another one of hers
 *	psk-two			hers and one of "bob", whom no server knows
 */
#ifndef TEST_CERTS_H
#define TEST_CERTS_H

/* The path of one of these. Up to sixteen results are valid at a time. */
const char *test_certs(const char *name);

#endif
