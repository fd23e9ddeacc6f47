/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PVH entry (32-bit, no paging) to 64-bit C with the first 4 GiB identity-mapped, open to user mode;
 * interrupt entries, the way to user mode and back.
 */
	.section .note.pvh, "a", @note
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.text
	.code32
	.globl start32
start32:
	cld
	movl $stack_top, %esp
	movl %ebx, %ebp
	/* Four page directories of 2 MiB pages. */
	movl $pd, %edi
	movl $0x87, %eax		/* present, writable, user, 2 MiB */
	xorl %edx, %edx
1:	movl %eax, (%edi)
	movl %edx, 4(%edi)
	addl $0x200000, %eax
	addl $8, %edi
	cmpl $pd + 4 * 4096, %edi
	jne 1b
	movl $pdpt, %edi
	movl $pd + 7, %eax
	movl $4, %ecx
2:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	decl %ecx
	jnz 2b
	movl $pdpt + 7, pml4
	movl $pdpt + 7, pml4_other

	movl $0x40620, %eax		/* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	movl $0x80010033, %eax		/* PG, WP, NE, ET, MP, PE */
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $start64

	.code64
start64:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl %eax, %fs
	movl %eax, %gs
	movl $stack_top, %esp
	fninit				/* reset leaves x87 exceptions unmasked */
	movl %ebp, %edi
	xorl %ebp, %ebp
	call guest_main
3:	cli
	hlt
	jmp 3b

	/* Every vector: error code (or 0), vector, then all registers: struct guest_frame. */
	.altmacro
	.macro entry n
	.if \n == 8 || (\n >= 10 && \n <= 14) || \n == 17 || \n == 21
	nop
	nop
	.else
	pushq $0
	.endif
	pushq $\n
	jmp entry_common
	.balign 16
	.endm

	.balign 16
	.globl guest_entries
guest_entries:
	.set n, 0
	.rept 96
	entry %n
	.set n, n + 1
	.endr

entry_common:
	cld
	pushq %rax
	pushq %rbx
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %rbp
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	call guest_trap
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rbp
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rbx
	popq %rax
	addq $16, %rsp
	iretq

	/* uint64_t guest_user(uint64_t (*f)(uint64_t), uint64_t arg, uint64_t rflags) */
	.globl guest_user
guest_user:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushfq
	movq %rsp, user_caller
	pushq $0x23
	leaq user_stack_top - 8(%rip), %rax
	leaq user_return(%rip), %rcx
	movq %rcx, (%rax)
	pushq %rax
	pushq %rdx
	pushq $0x2b
	pushq %rdi
	movq %rsi, %rdi
	iretq
user_return:				/* f has returned, still in user mode */
	int $0x41
	.globl guest_user_done
guest_user_done:			/* gate 0x41 */
	cld
	movq user_caller, %rsp
	popfq
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	/* syscall: the value behind the kernel's GS base */
	.globl guest_syscall
guest_syscall:
	swapgs
	movq %gs:0, %rax
	swapgs
	sysretq

	.data
	.balign 16
gdt_pointer:
	.word 31
	.long first_gdt
	.balign 16
first_gdt:
	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0

	.bss
	.balign 4096
	.globl pml4, pml4_other
pml4:	.skip 4096
pml4_other: .skip 4096
pdpt:	.skip 4096
pd:	.skip 4 * 4096
	.skip 65536
stack_top:
	.skip 16384
	.globl guest_trap_stack_top
guest_trap_stack_top:
	.skip 16384
user_stack_top:
user_caller:
	.skip 8

	.section .note.GNU-stack, "", @progbits
