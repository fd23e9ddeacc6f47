/* SPDX-License-Identifier: Apache-2.0 */
/* The signal that gets a vCPU thread's attention, for every engine. */
#ifndef R3_CPU_KICK_H
#define R3_CPU_KICK_H

#include <signal.h>

#define CPU_KICK_SIGNAL SIGUSR1

#endif
