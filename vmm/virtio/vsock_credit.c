/* Credit, ours and the guest's (virtio 1.2 §5.10.6.3); what the fields mean is in vsock.h. */
#include "virtio/vsock.h"

#define IN_FLIGHT_MAX (1U << 30) /* bytes */

/* ---- credit that we grant ---- */

/* Keeps the pool's promise: room for all that was granted and not yet forwarded, at any offset in its chunks. */
void vsock_credit_reserve(struct vsock_conn *conn)
{
	uint32_t promised = conn->granted - conn->forwarded;
	uint32_t chunks = (promised + VSOCK_CHUNK - 1) / VSOCK_CHUNK + 1;
	unsigned extra = chunks > VSOCK_CHUNKS_BASE ? chunks - VSOCK_CHUNKS_BASE : 0;

	conn->vs->extra_free = conn->vs->extra_free + conn->extra - extra;
	conn->extra = (uint16_t)extra;
}

/* A share of what is free: large while few connections use the pool, VSOCK_CREDIT_MIN when it is given away. */
static uint32_t target_of(const struct vsock_conn *conn)
{
	unsigned share = (conn->vs->extra_free + conn->extra) / (conn->up_used ? 8 : 32);
	uint32_t bytes = VSOCK_CREDIT_MIN + share * VSOCK_CHUNK;

	return bytes < VSOCK_CREDIT_MAX ? bytes : VSOCK_CREDIT_MAX;
}

uint32_t vsock_credit_grant(struct vsock_conn *conn)
{
	uint32_t edge = conn->forwarded + target_of(conn);

	if (conn->state != VSOCK_CLOSED && (int32_t)(edge - conn->granted) > 0) {
		conn->granted = edge;
		vsock_credit_reserve(conn);
	}
	conn->told = conn->granted - conn->forwarded;
	return conn->told;
}

/* One update per half window, not per packet: data packets to the guest carry the same news for nothing. */
void vsock_credit_tell(struct vsock_conn *conn)
{
	uint32_t target = target_of(conn);
	int32_t gain = (int32_t)(conn->forwarded + target - conn->granted);

	if (conn->state != VSOCK_OPEN || conn->up_last || conn->up_over)
		return;
	if (conn->granted - conn->from_guest <= conn->told / 2 && gain >= (int32_t)(target / 2))
		vsock_conn_want(conn, VSOCK_WANT_CREDIT_UPDATE);
}

/* ---- credit that the guest grants ---- */

bool vsock_credit_peer(struct vsock_conn *conn, uint32_t buf_alloc, uint32_t fwd_cnt)
{
	uint32_t in_flight = conn->to_guest - fwd_cnt;

	if ((int32_t)in_flight < 0)
		return false; /* took more than was sent */
	/* Linux stamps packets before it orders them: an older count is no news, and no fault. */
	if (in_flight <= conn->to_guest - conn->peer_fwd)
		conn->peer_fwd = fwd_cnt;
	conn->peer_alloc = buf_alloc;
	conn->credit_asked = false;
	if (conn->readable)
		vsock_conn_want(conn, 0);
	return true;
}

uint32_t vsock_credit_left(const struct vsock_conn *conn)
{
	uint32_t in_flight = conn->to_guest - conn->peer_fwd;
	/* In flight stays far below 2^31, so that the sign of a difference tells old counts from absurd ones. */
	uint32_t alloc = conn->peer_alloc < IN_FLIGHT_MAX ? conn->peer_alloc : IN_FLIGHT_MAX;

	return alloc > in_flight ? alloc - in_flight : 0;
}
