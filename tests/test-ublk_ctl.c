// SPDX-License-Identifier: GPL-2.0-or-later
/* What the kernel is told about a disk; the commands need a kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "include/bounds.h"
#include "nbd-client/ublk_ctl.h"

static struct export_info export;
static struct ublk_disk disk;

static int set_up(void **state)
{
	(void)state;
	export = (struct export_info){
		.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
			 NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
			 NBD_FLAG_SEND_WRITE_ZEROES,
		.block_min = 1,
		.block_pref = 4096,
	};
	disk = (struct ublk_disk){
		.size_bytes = 1ull << 40,
		.block_bytes = 512,
		.request_bytes_max = 128 * KIB,
		.zero_bytes_max = 1u << 30,
		.export = &export,
	};
	return 0;
}

static void all_that_a_server_can(void **state)
{
	struct ublk_params p = ublk_ctl_params(&disk);

	(void)state;
	assert_int_equal(p.len, sizeof(p));
	assert_int_equal(p.types,
			 UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
	assert_int_equal(p.basic.attrs,
			 UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA);
	assert_int_equal(p.basic.logical_bs_shift, 9);
	assert_int_equal(p.basic.physical_bs_shift, 12);
	assert_int_equal(p.basic.max_sectors, 256);
	assert_true(p.basic.dev_sectors == 1ull << 31);
	assert_int_equal(p.discard.discard_granularity, 512);
	assert_int_equal(p.discard.max_discard_sectors, 1u << 21);
	assert_int_equal(p.discard.max_discard_segments, 1);
	assert_int_equal(p.discard.max_write_zeroes_sectors, 1u << 21);
}

/* No limit is offered for what the server lacks. */
static void what_a_server_lacks(void **state)
{
	struct ublk_params p;

	(void)state;
	export.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_TRIM;
	p = ublk_ctl_params(&disk);
	assert_int_equal(p.basic.attrs, 0);
	assert_int_equal(p.discard.max_discard_sectors, 1u << 21);
	assert_int_equal(p.discard.max_write_zeroes_sectors, 0);
	export.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_WRITE_ZEROES;
	p = ublk_ctl_params(&disk);
	assert_int_equal(p.discard.max_discard_sectors, 0);
	assert_int_equal(p.discard.max_write_zeroes_sectors, 1u << 21);
	export.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_ROTATIONAL;
	p = ublk_ctl_params(&disk);
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
	assert_int_equal(p.basic.attrs, UBLK_ATTR_ROTATIONAL);
}

static void read_only(void **state)
{
	struct ublk_params p;

	(void)state;
	disk.read_only = true;
	p = ublk_ctl_params(&disk);
	assert_true(p.basic.attrs & UBLK_ATTR_READ_ONLY);
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
}

/* The driver refuses a physical block smaller than the logical one. */
static void block_sizes(void **state)
{
	static const struct {
		uint32_t logical, preferred;
		uint8_t shift;
	} cases[] = {
		{ 512, 512, 9 },    { 512, 65536, 12 }, { 4096, 512, 12 },
		{ 4096, 4096, 12 }, { 1024, 2048, 11 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ublk_params p;

		disk.block_bytes = cases[i].logical;
		export.block_pref = cases[i].preferred;
		p = ublk_ctl_params(&disk);
		assert_int_equal(1u << p.basic.logical_bs_shift,
				 cases[i].logical);
		assert_int_equal(p.basic.physical_bs_shift, cases[i].shift);
		assert_int_equal(p.discard.discard_granularity,
				 cases[i].logical);
	}
}

static void features_in_words(void **state)
{
	struct ublk_ctl c = { .features = UBLK_F_USER_COPY | UBLK_F_QUIESCE };
	char text[64], little[12];

	(void)state;
	ublk_ctl_describe(&c, text, sizeof(text));
	assert_string_equal(text, "user copy, quiesce");
	ublk_ctl_describe(&c, little, sizeof(little));
	assert_string_equal(little, "user copy, ");
	c.features = 0;
	ublk_ctl_describe(&c, text, sizeof(text));
	assert_string_equal(text, "");
}

/* Older than Linux 6.16: nothing is asked of it. */
static void resize_needs_a_feature(void **state)
{
	struct ublk_ctl c = { .features = UBLK_F_USER_COPY, .fd = -1 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(ublk_ctl_resize(&c, 0, 1 << 20, 1000, &err), -ENOTSUP);
	assert_int_equal(err.exit_code, X_KERNEL);
	assert_non_null(strstr(err.text, "6.16"));
	assert_int_equal(c.sequence, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_that_a_server_can), TEST(what_a_server_lacks),
		TEST(read_only),	     TEST(block_sizes),
		TEST(features_in_words),     TEST(resize_needs_a_feature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
