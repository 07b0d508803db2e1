// SPDX-License-Identifier: GPL-2.0-or-later
/* Traffic shedding: the map, the program, the choice of interfaces. */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "nbd-client/rtnl.h"
#include "nbd-client/shed.h"
#include "nbd-client/shed_tc.h"
#include "nbd-client/stats.h"

static int bpf(int command, union bpf_attr *attr)
{
	long ret = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return ret < 0 ? -errno : (int)ret;
}

/* ---- map and program ---- */

static int make_map(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(struct shed_values),
		.max_entries = 1,
		.map_flags = BPF_F_MMAPABLE,
		.map_name = "nbd_shed",
	};

	return bpf(BPF_MAP_CREATE, &attr);
}

static int load_prog(const struct shed_exempt *exempt, int map_fd)
{
	static struct shed_prog prog;
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SCHED_CLS,
		.insns = (uintptr_t)prog.insn,
		.license = (uintptr_t) "GPL",
		.prog_name = "nbd_shed",
	};

	shed_prog_build(&prog, exempt, map_fd);
	attr.insn_cnt = prog.count;
	return bpf(BPF_PROG_LOAD, &attr);
}

/* The descriptor of the program, or -errno. */
static int load(struct shed *s, const struct shed_exempt *exempt)
{
	int map_fd = make_map(), prog_fd;
	void *page;

	if (map_fd < 0)
		return map_fd;
	page = mmap(NULL, sizeof(*s->values), PROT_READ | PROT_WRITE,
		    MAP_SHARED, map_fd, 0);
	prog_fd = page == MAP_FAILED ? -errno : load_prog(exempt, map_fd);
	/* The mapping and the program keep the map. */
	close(map_fd);
	if (prog_fd >= 0)
		s->values = page;
	else if (page != MAP_FAILED)
		munmap(page, sizeof(*s->values));
	return prog_fd;
}

/* ---- which interfaces ---- */

/*
 * Whether packets look the same at the hardware below an interface of this
 * kind. Those in a tunnel do not.
 */
static bool is_plain(const char *kind)
{
	static const char *const plain[] = { "",       "vlan", "bridge",
					     "bond",   "team", "macvlan",
					     "ipvlan", "vrf",  "veth" };

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (!strcmp(kind, plain[i]))
			return true;
	}
	return false;
}

/* Which of them lead to a server. */
static void find_leads(const struct shed_exempt *exempt,
		       const struct shed_link *links, size_t count,
		       bool *ret_leads)
{
	for (uint32_t i = 0; i < exempt->server_count; i++) {
		struct rtnl_route route;

		/* Not each address needs to be of a network that we are in. */
		if (rtnl_find_route(&exempt->servers[i], &route) < 0)
			continue;
		for (size_t j = 0; j < count; j++) {
			if (links[j].index == route.index && links[j].up)
				ret_leads[j] = true;
		}
	}
}

/*
 * Strangers come in by any hardware. Interfaces made upon it are served by
 * that; the one to the server may have none (in a container). When the
 * server is behind a tunnel, the packets that carry it cannot be told from
 * those of strangers: then nothing but the tunnel is a place to shed.
 */
static void choose(const struct shed_link *links, size_t count, bool *use)
{
	bool tunnel = false;

	for (size_t i = 0; i < count; i++)
		tunnel = tunnel || (use[i] && !is_plain(links[i].kind));
	for (size_t i = 0; i < count && !tunnel; i++)
		use[i] = use[i] || (links[i].up && !links[i].kind[0]);
}

/* ---- attach and detach ---- */

static bool is_stale(const char *device, const void *arg)
{
	const struct stats_page *page;
	bool alive;

	if (arg && !strcmp(device, arg))
		return true;
	if (stats_open(device, &page, NULL) < 0)
		return true;
	alive = stats_alive(page);
	stats_close(page);
	return !alive;
}

static bool is_named(const char *device, const void *name)
{
	return !strcmp(device, name);
}

int shed_drop_stale(void)
{
	return shed_tc_remove(is_stale, NULL);
}

static int failed(int ret, const char *what, struct err *err)
{
	if (ret == -EPERM || ret == -EACCES)
		return err_set(err, X_PERMISSION, -ret,
			       "--shed: not allowed to %s; run as root, outside "
			       "any container, or leave out --shed", what);
	return err_set(err, X_KERNEL, -ret,
		       "--shed: cannot %s: %s; does this kernel have the modules "
		       "sch_ingress and cls_bpf, and BPF? Or leave out --shed",
		       what, strerror(-ret));
}

/* At all of the interfaces, or none; their names to ret_text. */
static int add_all(const char *device, const struct shed_exempt *exempt,
		   int prog_fd, char *ret_text, size_t text_bytes,
		   struct err *err)
{
	static struct shed_link links[SHED_LINKS_MAX];
	bool use[SHED_LINKS_MAX] = { false };
	size_t count = 0, used = 0;
	char what[64];
	int ret = shed_tc_links(links, &count);

	ret_text[0] = '\0';
	if (ret < 0)
		return failed(ret, "list network interfaces", err);
	find_leads(exempt, links, count, use);
	choose(links, count, use);
	for (size_t i = 0; i < count; i++) {
		if (!use[i])
			continue;
		ret = shed_tc_add(links[i].index, device, prog_fd);
		if (ret < 0) {
			snprintf(what, sizeof(what), "filter at %s",
				 links[i].name);
			return failed(ret, what, err);
		}
		if (used < text_bytes)
			used += (size_t)snprintf(ret_text + used,
						 text_bytes - used, " %s",
						 links[i].name);
	}
	return 0;
}

static void add_servers(struct shed_exempt *exempt,
			const struct link_addrs *addrs)
{
	for (uint32_t i = 0; i < addrs->count; i++) {
		const struct sockaddr_storage *sa = &addrs->addr[i].sa;

		if (sa->ss_family == AF_INET || sa->ss_family == AF_INET6)
			exempt->servers[exempt->server_count++] = *sa;
	}
}

static void fill_exempt(struct shed_exempt *exempt,
			const struct endpoints *servers, const uint16_t *ports,
			uint32_t port_count)
{
	_Static_assert(ENDPOINTS_MAX * LINK_ADDRS_MAX <= SHED_SERVERS_MAX,
		       "room for all");

	for (uint32_t i = 0; i < servers->count; i++)
		add_servers(exempt, &servers->list[i].addrs);
	if (port_count)
		memcpy(exempt->ports, ports, port_count * sizeof(*ports));
	exempt->port_count = port_count;
}

int shed_open(struct shed *s, const char *device,
	      const struct endpoints *servers, const uint16_t *ports,
	      uint32_t port_count, struct stats_guarantee rows[STATS_GUARANTEES],
	      struct err *err)
{
	struct shed_exempt exempt = { 0 };
	char text[80];
	int prog_fd, ret;

	*s = (struct shed){ 0 };
	fill_exempt(&exempt, servers, ports, port_count);
	ret = shed_tc_remove(is_stale, device);
	if (ret < 0) {
		ret = failed(ret, "look for filters", err);
		goto out;
	}
	prog_fd = load(s, &exempt);
	if (prog_fd < 0) {
		ret = failed(prog_fd, "load a BPF program", err);
		goto out;
	}
	ret = add_all(device, &exempt, prog_fd, text, sizeof(text), err);
	close(prog_fd); /* the filters keep it */
	if (ret < 0)
		shed_close(s, device);
out:
	if (ret < 0)
		stats_guarantee_set(rows, SHED_ROW, GUARANTEE_DEGRADED, "%.99s",
				    err->text);
	else
		stats_guarantee_set(rows, SHED_ROW, GUARANTEE_OK,
				    "in place at%s",
				    *text ? text : " no interface: none is up");
	return ret;
}

void shed_close(struct shed *s, const char *device)
{
	int ret;

	if (!s->values)
		return;
	shed_release(s);
	ret = shed_tc_remove(is_named, device);
	if (ret < 0) /* it has stopped already; the next attach removes it */
		log_say(LOG_LEVEL_WARNING, "%s: cannot remove the filters of "
			"--shed: %s", device, strerror(-ret));
	munmap(s->values, sizeof(*s->values));
	s->values = NULL;
}

/* ---- on and off ---- */

void shed_hold(struct shed *s, uint64_t now_ns)
{
	if (!s->values || s->outdated)
		return;
	__atomic_store_n(&s->values->deadline_ns, now_ns + SHED_HOLD_NS,
			 __ATOMIC_RELAXED);
	s->holding = true;
}

void shed_release(struct shed *s)
{
	if (!s->values)
		return;
	__atomic_store_n(&s->values->deadline_ns, 0, __ATOMIC_RELAXED);
	s->holding = false;
}

void shed_outdate(struct shed *s)
{
	shed_release(s);
	s->outdated = true;
}
