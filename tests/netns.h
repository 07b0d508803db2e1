/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network name space of a test's own, in which commands are run. Owns a folder
 * below /tmp, which the test may use, too.
 */
#ifndef NETNS_H
#define NETNS_H

extern char netns_dir[64];

/* Makes the folder and the name space, with veth near and far; or skips. */
void netns_setup(void);
int netns_teardown(void);

/* The exit status of a shell's command line. */
int netns_run(const char *command);

/* Fails the test, with what the command has said, if it does. */
void netns_must(const char *command);

/* Ends the program: its tests are skipped. */
void netns_skip(const char *why);

#endif
