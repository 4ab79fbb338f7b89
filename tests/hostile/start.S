/* Entries of the hostile guest: the boot CPU's (64-bit boot protocol, rsi: boot_params) and the trampoline of the others. */
	.section .text.start, "ax"
	.code64
	.global _start
_start:
	cli
	mov	$boot_stack_top, %rsp
	mov	%rsi, %rdi
	xor	%ebp, %ebp
	call	guest_main
1:	hlt
	jmp	1b

/* Copied to AP_CODE (guest.h), where SIPI's vector points; the VMM's page tables are taken as they are. */
#define AP_CODE   0x8000
#define BOOT_PML4 0x9000
#define AP(label) (AP_CODE + (label) - ap_code)
	.section .rodata
	.global ap_code, ap_code_bytes
	.balign	16
	.code16
ap_code:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	AP(ap_gdt_pointer)
	mov	%cr4, %eax
	or	$0x20, %eax
	mov	%eax, %cr4
	mov	$BOOT_PML4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	and	$0x9fffffff, %eax
	or	$0x80000001, %eax
	mov	%eax, %cr0
	ljmpl	$8, $AP(ap_long)
	.balign	16
ap_gdt:
	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
ap_gdt_pointer:
	.word	. - ap_gdt - 1
	.long	AP(ap_gdt)
	.code64
ap_long:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$ap_stack_top, %rsp
	xor	%ebp, %ebp
	mov	$ap_main, %rax
	call	*%rax
1:	hlt
	jmp	1b
ap_code_end:
	.balign	4
ap_code_bytes:
	.long	ap_code_end - ap_code

	.bss
	.balign	4096
	.skip	16384
boot_stack_top:
	.skip	16384
ap_stack_top:

	.section .note.GNU-stack, "", @progbits
