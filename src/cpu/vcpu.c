/* SPDX-License-Identifier: Apache-2.0 */
/* Kicking a vCPU from another thread, and which vCPU a thread runs. */
#include "cpu/vcpu.h"

#include "cpu/engine.h"

__thread struct vcpu *vcpu_self;

const struct cpu_engine *const cpu_engines[] = { &engine_dbt, &engine_interp, &engine_lockstep,
						 NULL };

void vcpu_kick(struct vcpu *v)
{
	atomic_store(&v->kick_pending, 1);
	v->engine->kick(v);
}

void vcpu_irq_hint(struct vcpu *v)
{
	if (atomic_exchange(&v->irq_hint, 1) == 0)
		v->engine->kick(v);
}
