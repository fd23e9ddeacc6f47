/* SPDX-License-Identifier: Apache-2.0 */
/* The split virtqueue (virtio 1.2, 2.7); see vq.h for what is promised. */
#include "dev/virtio/vq.h"

#include <errno.h>
#include <string.h>

enum {
	DESC_SIZE = 16,
	DESC_NEXT = 1,
	DESC_WRITE = 2,
	DESC_INDIRECT = 4,
	AVAIL_NO_INTERRUPT = 1,
	/* offsets in the avail and used rings */
	RING_FLAGS = 0,
	RING_IDX = 2,
	RING_ENTRIES = 4,
	USED_ENTRY = 8,
};

/* An indirect table may lie at any address. */
typedef uint64_t word_t __attribute__((aligned(1)));

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* Ring fields are naturally aligned: vq_enable checks the rings, layout does the rest. */
static uint16_t load16(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, v, __ATOMIC_RELEASE);
}

/* Two loads, each made once: the driver may change the descriptor while we look at it. */
static struct desc desc_load(const uint8_t *table, unsigned i)
{
	const volatile word_t *p = (const volatile word_t *)(const void *)(table + DESC_SIZE * i);
	const uint64_t addr = p[0], rest = p[1];

	return (struct desc){ .addr = addr,
			      .len = (uint32_t)rest,
			      .flags = (uint16_t)(rest >> 32),
			      .next = (uint16_t)(rest >> 48) };
}

int vq_enable(struct vq *q)
{
	struct vq_state *s = &q->st;
	const uint64_t n = s->size;

	if (n == 0 || n > s->max || n > VQ_SIZE_MAX || (n & (n - 1)) != 0)
		return -EBADMSG;
	if (s->desc % 16 != 0 || s->avail % 2 != 0 || s->used % 4 != 0)
		return -EBADMSG;
	q->desc = mem_ptr(q->mem, s->desc, DESC_SIZE * n, false);
	q->avail = mem_ptr(q->mem, s->avail, RING_ENTRIES + 2 * n + 2, false);
	q->used = mem_ptr(q->mem, s->used, RING_ENTRIES + USED_ENTRY * n + 2, true);
	if (q->desc == NULL || q->avail == NULL || q->used == NULL) {
		q->desc = q->avail = q->used = NULL;
		return -EBADMSG;
	}
	s->enabled = true;
	return 0;
}

void vq_reset(struct vq *q)
{
	const uint16_t max = q->st.max;

	memset(&q->st, 0, sizeof(q->st));
	q->st.max = max;
	q->st.size = max;
	q->st.vector = 0xffff;
	q->event_idx = q->indirect = false;
	q->desc = q->avail = q->used = NULL;
}

static int segment_add(const struct vq *q, struct vq_chain *c, const struct desc *d)
{
	const bool write = d->flags & DESC_WRITE;
	const unsigned i = c->n_out + c->n_in;
	uint64_t *sum = write ? &c->in_len : &c->out_len;
	uint8_t *host;

	if (d->len == 0 || i == VQ_SEGS_MAX)
		return -EBADMSG;
	if (!write && c->n_in > 0) /* 2.7.4.2: readable ones come first */
		return -EBADMSG;
	if (d->len > VQ_LEN_MAX - *sum)
		return -EBADMSG;
	host = mem_ptr(q->mem, d->addr, d->len, write);
	if (host == NULL)
		return -EBADMSG;
	c->iov[i] = (struct iovec){ host, d->len };
	c->gpa[i] = d->addr;
	c->len[i] = d->len;
	*sum += d->len;
	if (write)
		c->n_in++;
	else
		c->n_out++;
	return 0;
}

/* A descriptor that points at a table of descriptors (2.7.5.3) must be the last of its chain. */
static const uint8_t *indirect_table(const struct vq *q, const struct desc *d, uint32_t *count)
{
	if (!q->indirect || (d->flags & DESC_NEXT) || d->len == 0 || d->len % DESC_SIZE != 0 ||
	    d->len / DESC_SIZE > UINT16_MAX)
		return NULL;
	*count = d->len / DESC_SIZE;
	return mem_ptr(q->mem, d->addr, d->len, false);
}

static int chain_walk(const struct vq *q, struct vq_chain *c, uint16_t head)
{
	const uint8_t *table = q->desc;
	uint32_t count = q->st.size, steps = 0, i = head;
	bool in_indirect = false;

	for (;;) {
		struct desc d;
		int r;

		if (i >= count || steps++ >= count)
			return -EBADMSG;
		d = desc_load(table, i);
		if (d.flags & DESC_INDIRECT) {
			table = in_indirect ? NULL : indirect_table(q, &d, &count);
			if (table == NULL)
				return -EBADMSG;
			in_indirect = true;
			i = steps = 0;
			continue;
		}
		r = segment_add(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_NEXT))
			return 0;
		i = d.next;
	}
}

int vq_pop(struct vq *q, struct vq_chain *c)
{
	struct vq_state *s = &q->st;
	uint16_t there;
	int r;

	if (!s->enabled)
		return 0;
	there = (uint16_t)(load16(q->avail + RING_IDX) - s->next_avail);
	if (there == 0)
		return 0;
	if (there > s->size || s->inflight >= s->size)
		return -EBADMSG;
	c->head = load16(q->avail + RING_ENTRIES + 2 * (s->next_avail & (s->size - 1)));
	c->n_out = c->n_in = 0;
	c->out_len = c->in_len = 0;
	r = chain_walk(q, c, c->head);
	if (r < 0)
		return r;
	s->next_avail++;
	s->inflight++;
	return 1;
}

void vq_unpop(struct vq *q, unsigned n)
{
	q->st.next_avail = (uint16_t)(q->st.next_avail - n);
	q->st.inflight = (uint16_t)(q->st.inflight - n);
}

static void tell_written(const struct vq *q, const struct vq_chain *c, uint32_t written)
{
	for (unsigned i = c->n_out; i < c->n_out + c->n_in && written > 0; i++) {
		const uint32_t n = MIN(written, c->len[i]);

		mem_dma_written(q->mem, c->gpa[i], n);
		written -= n;
	}
}

void vq_fill(struct vq *q, const struct vq_chain *c, uint32_t written, unsigned nth)
{
	const unsigned slot = (q->st.next_used + nth) & (q->st.size - 1u);
	const uint32_t at = RING_ENTRIES + USED_ENTRY * slot;
	const uint32_t entry[2] = { c->head, written };

	if (!q->st.enabled)
		return;
	tell_written(q, c, written);
	memcpy(q->used + at, entry, sizeof(entry));
	mem_dma_written(q->mem, q->st.used + at, sizeof(entry));
}

void vq_publish(struct vq *q, unsigned n)
{
	if (!q->st.enabled)
		return;
	q->st.next_used = (uint16_t)(q->st.next_used + n);
	q->st.inflight = (uint16_t)(q->st.inflight - n);
	store16(q->used + RING_IDX,
		q->st.next_used); /* release: entries and data before the index */
	mem_dma_written(q->mem, q->st.used + RING_IDX, 2);
}

void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	vq_fill(q, c, written, 0);
	vq_publish(q, 1);
}

bool vq_rearm(struct vq *q)
{
	const uint32_t at = RING_ENTRIES + USED_ENTRY * (uint32_t)q->st.size; /* avail_event */

	if (!q->st.enabled)
		return false;
	if (q->event_idx) {
		store16(q->used + at, q->st.next_avail);
		mem_dma_written(q->mem, q->st.used + at, 2);
		/* The driver stores its index, then reads the event; we the other way round. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	return load16(q->avail + RING_IDX) != q->st.next_avail;
}

bool vq_wants_irq(struct vq *q)
{
	struct vq_state *s = &q->st;
	const uint16_t new = s->next_used, old = s->signalled;
	const bool valid = s->signalled_valid;
	uint16_t event;

	if (!s->enabled)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx)
		return !(load16(q->avail + RING_FLAGS) & AVAIL_NO_INTERRUPT);
	s->signalled = new;
	s->signalled_valid = true;
	event = load16(q->avail + RING_ENTRIES + 2 * (uint32_t)s->size); /* used_event, 2.7.7 */
	return !valid || (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* Walks the segments [first, first + n) and copies what lies in [off, off + len). */
static size_t copy(const struct vq_chain *c, unsigned first, unsigned n, uint64_t off, uint8_t *buf,
		   size_t len, bool to_guest)
{
	size_t done = 0;

	for (unsigned i = first; i < first + n && done < len; i++) {
		uint8_t *p = (uint8_t *)c->iov[i].iov_base;
		const size_t have = c->iov[i].iov_len;
		size_t m;

		if (off >= have) {
			off -= have;
			continue;
		}
		m = MIN(have - (size_t)off, len - done);
		if (to_guest)
			memcpy(p + off, buf + done, m);
		else
			memcpy(buf + done, p + off, m);
		done += m;
		off = 0;
	}
	return done;
}

size_t vq_read(const struct vq_chain *c, uint64_t off, void *buf, size_t n)
{
	return copy(c, 0, c->n_out, off, buf, n, false);
}

size_t vq_write(const struct vq_chain *c, uint64_t off, const void *buf, size_t n)
{
	return copy(c, c->n_out, c->n_in, off, (uint8_t *)(uintptr_t)buf, n, true);
}

void vq_skip_out(struct vq_chain *c, uint64_t n)
{
	for (unsigned i = 0; i < c->n_out && n > 0; i++) {
		const size_t m = (size_t)MIN(n, (uint64_t)c->iov[i].iov_len);

		c->iov[i].iov_base = (uint8_t *)c->iov[i].iov_base + m;
		c->iov[i].iov_len -= m;
		n -= m;
	}
}

void vq_trim_in(struct vq_chain *c, uint64_t n)
{
	for (unsigned i = c->n_out + c->n_in; i > c->n_out && n > 0; i--) {
		const size_t m = (size_t)MIN(n, (uint64_t)c->iov[i - 1].iov_len);

		c->iov[i - 1].iov_len -= m;
		n -= m;
	}
}
