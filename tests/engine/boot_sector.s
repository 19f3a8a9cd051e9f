# SPDX-License-Identifier: Apache-2.0
# A boot sector that reads the sector behind it with the BIOS, prints it on the first serial port, writes it one sector
# further, and stops.
  .code16
  .globl _start
_start:
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7000, %sp
  mov $0x7e00, %bx      # the buffer
  mov $0, %dh           # head; the BIOS has left the drive in dl
  push %dx
  mov $0x0201, %ax      # read one sector
  mov $0x0002, %cx      # cylinder 0, sector 2
  int $0x13
  jc stop
  pop %dx
  mov $0x0301, %ax      # write one sector
  mov $0x0003, %cx
  int $0x13
  jc stop
  mov $0x7e00, %si
  mov $0x3f8, %dx
next:
  lodsb
  test %al, %al
  jz stop
  out %al, %dx
  jmp next
stop:
  cli
  hlt
  jmp stop
  .org 510
  .word 0xaa55
