/* SPDX-License-Identifier: Apache-2.0 */
/* Device lifecycle: order, failed creation, optional functions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/bus.h"

#include <errno.h>
#include <string.h>

static char trail[64];

static void mark(char what, const struct dev *d)
{
	size_t n = strlen(trail);

	trail[n] = what;
	trail[n + 1] = d->name[0];
	trail[n + 2] = '\0';
}

static int on_create(struct dev *d, const void *cfg, struct err *e)
{
	const int *answer = cfg;
	uint64_t *priv = d->priv;

	assert_int_equal(*priv, 0);
	*priv = 1;
	mark('c', d);
	if (answer != NULL && *answer == -ENODEV)
		return -ENODEV; /* says nothing itself */
	return answer != NULL ? err_set(e, *answer, "no luck") : 0;
}

static void on_reset(struct dev *d)
{
	mark('r', d);
}

static void on_pause(struct dev *d)
{
	mark('p', d);
}

static void on_destroy(struct dev *d)
{
	mark('d', d);
}

static const struct dev_class cls = { .name = "t",
				      .priv_size = 8,
				      .create = on_create,
				      .reset = on_reset,
				      .pause = on_pause,
				      .destroy = on_destroy };
static const struct dev_class bare = { .name = "bare" };

static void order_is_reversed(void **state)
{
	struct dev_list l = { NULL };
	struct dev *b;

	(void)state;
	trail[0] = '\0';
	assert_non_null(dev_create(&l, NULL, &cls, "a", NULL, NULL));
	b = dev_create(&l, NULL, &cls, "b", NULL, NULL);
	assert_non_null(b);
	assert_non_null(dev_create(&l, NULL, &cls, "c", NULL, NULL));
	assert_non_null(dev_create(&l, NULL, &bare, "n", NULL, NULL));
	dev_reset_all(&l);
	dev_pause_all(&l);
	dev_resume_all(&l);
	dev_destroy(&l, b);
	dev_destroy_all(&l);
	assert_string_equal(trail, "cacbccrcrbrapcpbpadbdcda");
	assert_null(l.first);
}

static void failed_create_leaves_nothing(void **state)
{
	struct dev_list l = { NULL };
	struct err e = { 0, "" };
	int answer = -EIO;

	(void)state;
	trail[0] = '\0';
	assert_null(dev_create(&l, NULL, &cls, "x", &answer, &e));
	assert_int_equal(e.code, -EIO);
	assert_string_equal(e.msg, "no luck");
	answer = -ENODEV;
	assert_null(dev_create(&l, NULL, &cls, "x", &answer, &e));
	assert_int_equal(e.code, -ENODEV);
	assert_non_null(strstr(e.msg, "x: "));
	assert_null(l.first);
	assert_string_equal(trail, "cxcx"); /* never created, so never destroyed */
}

static void long_name_is_cut(void **state)
{
	struct dev_list l = { NULL };
	struct dev *d;

	(void)state;
	d = dev_create(&l, NULL, &bare, "0123456789012345678901234567890123456789", NULL, NULL);
	assert_non_null(d);
	assert_int_equal(strlen(d->name), sizeof(d->name) - 1);
	dev_destroy_all(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_is_reversed),
		cmocka_unit_test(failed_create_leaves_nothing),
		cmocka_unit_test(long_name_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
