// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program, in the order in which a packet meets it:
 *
 *	no deadline, or past it					pass
 *	neither IPv4 nor IPv6 (ARP, LACP, STP, PPPoE ...)	pass
 *	neither ICMP nor TCP, UDP, UDP-Lite, SCTP, DCCP		pass
 *	later fragment: of a server				pass
 *		of others					drop
 *	ICMP, ICMPv6: echo					drop
 *		all others (path MTU, neighbours, MLD)		pass
 *	an exempt port is source or destination			pass
 *	of a server, from its port				pass
 *	all others						drop
 *
 * What it does not know passes: it ends in no socket's queue, and it may be
 * what carries the link (tunnels, link control). So do IPv6 packets with
 * extension headers other than a fragment header directly behind the IPv6
 * header; they are not walked.
 *
 * "Pass" is TC_ACT_UNSPEC: the filters of others see the packet next.
 */
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#include "common/check.h"
#include "nbd-client/shed_prog.h"

/* Always exempt: ssh; DHCP and DHCPv6, or the address would be lost. */
static const uint16_t always_exempt[] = { 22, 67, 68, 546, 547 };

/* What has its ports in its first four bytes, and queues in sockets. */
static const uint8_t with_ports[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE,
				      IPPROTO_SCTP, IPPROTO_DCCP };

/* Registers: R6 to R9 survive calls. */
#define R_SKB BPF_REG_6
#define R_VALUES BPF_REG_7
#define R_OFFSET BPF_REG_8 /* of the header behind the IP header */
#define R_PROTO BPF_REG_9  /* of that header; later the source port */

/* The stack: the IP header, below it the first bytes of what follows. */
#define IP_AT (-40)
#define REST_AT (-48)

/* In place of a source port, where a fragment has none. */
#define NO_PORT 0x10000

#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define IPV6_FRAGMENT_BYTES 8
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { LABEL_PASS, LABEL_DROP, LABEL_FIRST_FREE };

/* ---- instructions ---- */

static void emit(struct shed_prog *p, uint8_t code, uint8_t dst, uint8_t src,
		 int16_t off, int32_t imm)
{
	CHECK(p->count < SHED_INSNS_MAX);
	p->insn[p->count++] = (struct bpf_insn){ .code = code,
						 .dst_reg = dst,
						 .src_reg = src,
						 .off = off,
						 .imm = imm };
}

static void set_reg(struct shed_prog *p, uint8_t dst, uint8_t src)
{
	emit(p, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static void set_imm(struct shed_prog *p, uint8_t dst, int32_t imm)
{
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
}

/* src: 0, or BPF_PSEUDO_MAP_VALUE with the descriptor as the value. */
static void set_imm64(struct shed_prog *p, uint8_t dst, uint8_t src,
		      uint64_t value)
{
	/* The mode, BPF_IMM, is 0. */
	emit(p, BPF_LD | BPF_DW, dst, src, 0, (int32_t)value);
	emit(p, 0, 0, 0, 0, (int32_t)(value >> 32));
}

static void alu(struct shed_prog *p, uint8_t op, uint8_t dst, int32_t imm)
{
	emit(p, BPF_ALU64 | op | BPF_K, dst, 0, 0, imm);
}

static void load(struct shed_prog *p, uint8_t size, uint8_t dst, uint8_t src,
		 int off)
{
	emit(p, BPF_LDX | BPF_MEM | size, dst, src, (int16_t)off, 0);
}

/* In the order in which they arrive. */
static void swap_16(struct shed_prog *p, uint8_t reg)
{
	emit(p, BPF_ALU | BPF_END | BPF_TO_BE, reg, 0, 0, 16);
}

static void call(struct shed_prog *p, int32_t helper)
{
	emit(p, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

static uint32_t label_new(struct shed_prog *p)
{
	CHECK(p->label_count < SHED_LABELS_MAX);
	return p->label_count++;
}

static void label_here(struct shed_prog *p, uint32_t label)
{
	p->label_at[label] = p->count;
}

/* Jumps keep their label in `off` until all places are known. */
static void jump(struct shed_prog *p, uint32_t label)
{
	emit(p, BPF_JMP | BPF_JA, 0, 0, (int16_t)label, 0);
}

/* Compares 32 bits: a constant would otherwise be sign-extended to 64. */
static void jump_if(struct shed_prog *p, uint8_t op, uint8_t reg, uint32_t imm,
		    uint32_t label)
{
	emit(p, BPF_JMP32 | op | BPF_K, reg, 0, (int16_t)label, (int32_t)imm);
}

static void jump_if_reg(struct shed_prog *p, uint8_t op, uint8_t dst,
			uint8_t src, uint32_t label)
{
	emit(p, BPF_JMP | op | BPF_X, dst, src, (int16_t)label, 0);
}

static void resolve(struct shed_prog *p)
{
	for (uint32_t i = 0; i < p->count; i++) {
		struct bpf_insn *insn = &p->insn[i];
		uint8_t class = BPF_CLASS(insn->code);
		uint8_t op = BPF_OP(insn->code);

		if (class != BPF_JMP32 &&
		    (class != BPF_JMP || op == BPF_CALL || op == BPF_EXIT))
			continue;
		insn->off = (int16_t)(p->label_at[insn->off] - i - 1);
	}
}

/* ---- the parts ---- */

/*
 * Copies bytes of the packet, from offset R2, to the stack. It is counted from the IP header,
 * wherever it lies: the skb need not be linear nor have an Ethernet header. A
 * packet too short for its own header passes; IP will throw it away.
 */
static void read_packet(struct shed_prog *p, int to, int32_t bytes)
{
	set_reg(p, BPF_REG_1, R_SKB);
	set_reg(p, BPF_REG_3, BPF_REG_10);
	alu(p, BPF_ADD, BPF_REG_3, to);
	set_imm(p, BPF_REG_4, bytes);
	set_imm(p, BPF_REG_5, BPF_HDR_START_NET);
	call(p, BPF_FUNC_skb_load_bytes_relative);
	jump_if(p, BPF_JNE, BPF_REG_0, 0, LABEL_PASS);
}

static void armed(struct shed_prog *p)
{
	load(p, BPF_DW, R_OFFSET, R_VALUES,
	     offsetof(struct shed_values, deadline_ns));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, R_OFFSET, 0, LABEL_PASS, 0);
	call(p, BPF_FUNC_ktime_get_ns);
	jump_if_reg(p, BPF_JGE, BPF_REG_0, R_OFFSET, LABEL_PASS);
}

/* R1 is the source's 32 or 2 x 64 bits against those of each server. */
static void server_v4(struct shed_prog *p, const struct sockaddr_in *server,
		      uint32_t next)
{
	load(p, BPF_W, BPF_REG_1, BPF_REG_10, IP_AT + 12);
	jump_if(p, BPF_JNE, BPF_REG_1, server->sin_addr.s_addr, next);
}

static void server_v6(struct shed_prog *p, const struct sockaddr_in6 *server,
		      uint32_t next)
{
	uint64_t half[2];

	memcpy(half, &server->sin6_addr, sizeof(half));
	for (int i = 0; i < 2; i++) {
		load(p, BPF_DW, BPF_REG_1, BPF_REG_10, IP_AT + 8 + 8 * i);
		set_imm64(p, BPF_REG_2, 0, half[i]);
		jump_if_reg(p, BPF_JNE, BPF_REG_1, BPF_REG_2, next);
	}
}

/* Passes what comes from a server; R_PROTO is the source port, or NO_PORT. */
static void servers(struct shed_prog *p, const struct shed_exempt *exempt,
		    sa_family_t family)
{
	for (uint32_t i = 0; i < exempt->server_count; i++) {
		const void *server = &exempt->servers[i];
		uint32_t next;
		in_port_t port;

		if (exempt->servers[i].ss_family != family)
			continue;
		next = label_new(p);
		if (family == AF_INET) {
			port = ((const struct sockaddr_in *)server)->sin_port;
			server_v4(p, server, next);
		} else {
			port = ((const struct sockaddr_in6 *)server)->sin6_port;
			server_v6(p, server, next);
		}
		jump_if(p, BPF_JEQ, R_PROTO, NO_PORT, LABEL_PASS);
		jump_if(p, BPF_JEQ, R_PROTO, ntohs(port), LABEL_PASS);
		label_here(p, next);
	}
	jump(p, LABEL_DROP);
}

/* From here on R_PROTO is the source port. */
static void ports(struct shed_prog *p, const struct shed_exempt *exempt)
{
	load(p, BPF_H, R_PROTO, BPF_REG_10, REST_AT);
	load(p, BPF_H, BPF_REG_2, BPF_REG_10, REST_AT + 2);
	swap_16(p, R_PROTO);
	swap_16(p, BPF_REG_2);
	for (size_t i = 0; i < COUNT(always_exempt) + exempt->port_count; i++) {
		uint16_t port = i < COUNT(always_exempt) ?
					always_exempt[i] :
					exempt->ports[i - COUNT(always_exempt)];

		jump_if(p, BPF_JEQ, R_PROTO, port, LABEL_PASS);
		jump_if(p, BPF_JEQ, BPF_REG_2, port, LABEL_PASS);
	}
}

/*
 * A header of R_PROTO at R_OFFSET, of a fragment that begins at R1 (in whatever
 * unit).
 */
static void transport(struct shed_prog *p, const struct shed_exempt *exempt,
		      sa_family_t family)
{
	bool v4 = family == AF_INET;
	uint8_t icmp_protocol = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	uint32_t known = label_new(p), whole = label_new(p);
	uint32_t icmp = label_new(p), source = label_new(p);

	jump_if(p, BPF_JEQ, R_PROTO, icmp_protocol, known);
	for (size_t i = 0; i < COUNT(with_ports); i++)
		jump_if(p, BPF_JEQ, R_PROTO, with_ports[i], known);
	jump(p, LABEL_PASS);
	label_here(p, known);
	jump_if(p, BPF_JEQ, BPF_REG_1, 0, whole);
	set_imm(p, R_PROTO, NO_PORT);
	jump(p, source);
	label_here(p, whole);
	set_reg(p, BPF_REG_2, R_OFFSET);
	read_packet(p, REST_AT, 4);
	jump_if(p, BPF_JEQ, R_PROTO, icmp_protocol, icmp);
	ports(p, exempt);
	label_here(p, source);
	servers(p, exempt, family);
	label_here(p, icmp);
	load(p, BPF_B, BPF_REG_1, BPF_REG_10, REST_AT);
	jump_if(p, BPF_JEQ, BPF_REG_1,
		v4 ? ICMP_ECHO_REQUEST : ICMP6_ECHO_REQUEST, LABEL_DROP);
	jump_if(p, BPF_JEQ, BPF_REG_1, v4 ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY,
		LABEL_DROP);
	jump(p, LABEL_PASS);
}

static void ipv4(struct shed_prog *p, const struct shed_exempt *exempt)
{
	set_imm(p, BPF_REG_2, 0);
	read_packet(p, IP_AT, IPV4_BYTES);
	load(p, BPF_B, R_OFFSET, BPF_REG_10, IP_AT);
	alu(p, BPF_AND, R_OFFSET, 0x0f); /* IHL: options are part of it */
	alu(p, BPF_LSH, R_OFFSET, 2);
	load(p, BPF_B, R_PROTO, BPF_REG_10, IP_AT + 9);
	load(p, BPF_H, BPF_REG_1, BPF_REG_10, IP_AT + 6);
	swap_16(p, BPF_REG_1);
	alu(p, BPF_AND, BPF_REG_1, 0x1fff);
	transport(p, exempt, AF_INET);
}

static void ipv6(struct shed_prog *p, const struct shed_exempt *exempt)
{
	uint32_t ready = label_new(p);

	set_imm(p, BPF_REG_2, 0);
	read_packet(p, IP_AT, IPV6_BYTES);
	set_imm(p, R_OFFSET, IPV6_BYTES);
	load(p, BPF_B, R_PROTO, BPF_REG_10, IP_AT + 6);
	set_imm(p, BPF_REG_1, 0);
	jump_if(p, BPF_JNE, R_PROTO, IPPROTO_FRAGMENT, ready);
	set_reg(p, BPF_REG_2, R_OFFSET);
	read_packet(p, REST_AT, IPV6_FRAGMENT_BYTES);
	set_imm(p, R_OFFSET, IPV6_BYTES + IPV6_FRAGMENT_BYTES);
	load(p, BPF_B, R_PROTO, BPF_REG_10, REST_AT);
	load(p, BPF_H, BPF_REG_1, BPF_REG_10, REST_AT + 2);
	swap_16(p, BPF_REG_1);
	alu(p, BPF_AND, BPF_REG_1, 0xfff8);
	label_here(p, ready);
	transport(p, exempt, AF_INET6);
}

static void count_up(struct shed_prog *p, uint8_t by, size_t offset)
{
	emit(p, BPF_STX | BPF_ATOMIC | BPF_DW, R_VALUES, by, (int16_t)offset,
	     BPF_ADD);
}

static void verdict(struct shed_prog *p, int32_t action)
{
	set_imm(p, BPF_REG_0, action);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

void shed_prog_build(struct shed_prog *p, const struct shed_exempt *exempt,
		     int map_fd)
{
	uint32_t six;

	CHECK(exempt->server_count <= SHED_SERVERS_MAX &&
	      exempt->port_count <= SHED_PORTS_MAX);
	p->count = 0;
	p->label_count = LABEL_FIRST_FREE;
	six = label_new(p);
	set_reg(p, R_SKB, BPF_REG_1);
	set_imm64(p, R_VALUES, BPF_PSEUDO_MAP_VALUE, (uint32_t)map_fd);
	armed(p);
	load(p, BPF_W, BPF_REG_1, R_SKB, offsetof(struct __sk_buff, protocol));
	jump_if(p, BPF_JEQ, BPF_REG_1, htons(ETH_P_IPV6), six);
	jump_if(p, BPF_JNE, BPF_REG_1, htons(ETH_P_IP), LABEL_PASS);
	ipv4(p, exempt);
	label_here(p, six);
	ipv6(p, exempt);
	label_here(p, LABEL_PASS);
	verdict(p, TC_ACT_UNSPEC);
	label_here(p, LABEL_DROP);
	set_imm(p, BPF_REG_1, 1);
	count_up(p, BPF_REG_1, offsetof(struct shed_values, packets));
	load(p, BPF_W, BPF_REG_1, R_SKB, offsetof(struct __sk_buff, len));
	count_up(p, BPF_REG_1, offsetof(struct shed_values, bytes));
	verdict(p, TC_ACT_SHOT);
	resolve(p);
}
