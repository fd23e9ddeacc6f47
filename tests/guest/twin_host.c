/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what the checksum guest must print: twin-host ROUNDS. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "twin_sum.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	printf("sum %016" PRIx64 "\n", twin_sum(strtoull(argv[1], NULL, 10)));
	return 0;
}
