# The injected code. What the registers hold, and why: blob.rs.
    .pushsection .rodata.rekindle_inject, "a"
    .globl rekindle_inject_code
    .hidden rekindle_inject_code
    .globl rekindle_inject_run
    .hidden rekindle_inject_run
    .globl rekindle_inject_park
    .hidden rekindle_inject_park
    .globl rekindle_inject_leave
    .hidden rekindle_inject_leave
    .globl rekindle_inject_clean
    .hidden rekindle_inject_clean
    .globl rekindle_inject_code_end
    .hidden rekindle_inject_code_end
    .globl rekindle_inject_slot
    .hidden rekindle_inject_slot
    .globl rekindle_inject_slot_end
    .hidden rekindle_inject_slot_end
    .balign 16
rekindle_inject_code:
# Entered with r12 = bytes of scratch wanted, r14 = 0, rbp, r15 set.
    mov eax, 14                 # rt_sigprocmask
    mov edi, 2                  # SIG_SETMASK
    lea rsi, [rbp + {mask_inside}]
    xor edx, edx
    mov r10d, 8
    syscall
    mov eax, 9                  # mmap
    xor edi, edi
    mov rsi, r12
    mov edx, 3                  # read, write
    mov r10d, 0x22              # private, anonymous
    mov r8, -1
    xor r9d, r9d
    syscall
    xor ebx, ebx
    mov r13, rax
    cmp rax, -4095
    jae rekindle_inject_park
    mov rbx, rax
    mov [rbx + {size}], r12
    jmp rekindle_inject_park

# Runs the table r12..r13, then goes where r14 says.
rekindle_inject_run:
    cmp r12, r13
    jae 30f
    mov rcx, [r12 + 72]         # the condition: place of an answer, 0: none
    test rcx, rcx
    jz 10f
    cmp qword ptr [rbx + rcx], 0
    jl 20f
10: mov r11d, [r12 + 64]        # which arguments to load
    mov rdi, [r12 + 16]
    shr r11d, 1
    jnc 11f
    mov rdi, [rbx + rdi]
11: mov rsi, [r12 + 24]
    shr r11d, 1
    jnc 12f
    mov rsi, [rbx + rsi]
12: mov rdx, [r12 + 32]
    shr r11d, 1
    jnc 13f
    mov rdx, [rbx + rdx]
13: mov r10, [r12 + 40]
    shr r11d, 1
    jnc 14f
    mov r10, [rbx + r10]
14: mov r8, [r12 + 48]
    shr r11d, 1
    jnc 15f
    mov r8, [rbx + r8]
15: mov r9, [r12 + 56]
    shr r11d, 1
    jnc 16f
    mov r9, [rbx + r9]
16: mov rax, [r12]
    syscall
    mov rcx, [r12 + 8]
    mov [rbx + rcx], rax
    test byte ptr [r12 + 80], 1
    jz 20f
    cmp rax, -4095
    jae 30f
20: add r12, {entry}
    jmp rekindle_inject_run
30: test r14d, r14d
    jnz rekindle_inject_undone
    mov [rbx + {ended_at}], r12

# Reports to the tracer by a signal that nobody handles: traced, the thread stops here; not
# traced, the signal is ignored and the thread goes back by itself.
rekindle_inject_park:
    test r15d, r15d
    jz 40f
    mov eax, 39                 # getpid
    syscall
    mov r12d, eax
    mov eax, 186                # gettid
    syscall
    mov edi, r12d
    mov esi, eax
    mov edx, r15d
    mov eax, 234                # tgkill
    syscall
    jmp rekindle_inject_leave
# No such signal: wait one to two seconds to be interrupted. Without scratch memory for a clock,
# some ten milliseconds.
40: test rbx, rbx
    jz 50f
    mov edi, 1                  # CLOCK_MONOTONIC
    lea rsi, [rbx + {timespec}]
    mov eax, 228                # clock_gettime
    syscall
    mov r13, [rbx + {timespec}]
    add r13, 2
45: mov eax, 24                 # sched_yield
    syscall
    mov edi, 1
    lea rsi, [rbx + {timespec}]
    mov eax, 228
    syscall
    cmp [rbx + {timespec}], r13
    jl 45b
    jmp rekindle_inject_leave
50: mov r12d, 50000
55: mov eax, 24
    syscall
    dec r12d
    jnz 55b

# Back to the program: undo, unmap, mask, registers.
rekindle_inject_leave:
    mov r14d, 1
    test rbx, rbx
    jz rekindle_inject_unmask
# Entered by the tracer with r14 = 2 to undo and unmap only.
rekindle_inject_clean:
    mov r12, [rbx + {undo_next}]
    mov r13, [rbx + {undo_end}]
    jmp rekindle_inject_run
rekindle_inject_undone:
    mov rdi, rbx
    mov rsi, [rbx + {size}]
    mov eax, 11                 # munmap
    syscall
    xor ebx, ebx
    mov r13, rax
    cmp r14d, 2
    je rekindle_inject_park
rekindle_inject_unmask:
    xor r12d, r12d
    cmp qword ptr [rbp + {handler_ends_call}], 0
    je 60f
    xor edi, edi                # ppoll of nothing, for no time: lets pending handlers run now
    xor esi, esi                # and tells whether one did
    lea rdx, [rbp + {zero}]
    lea r10, [rbp + {mask}]
    mov r8d, 8
    mov eax, 271
    syscall
    cmp eax, -4                 # EINTR
    sete r12b
60: mov eax, 14                 # rt_sigprocmask
    mov edi, 2
    lea rsi, [rbp + {mask}]
    xor edx, edx
    mov r10d, 8
    syscall
    cmp qword ptr [rbp + {direction}], 0
    je 65f
    std
65: lea rax, [rbp + {exit}]
    test r12d, r12d
    jz 70f
    add rax, {exit_after} - {exit}
70: mov rbx, [rbp + {general}]
    mov rcx, [rbp + {general} + 8]
    mov rdx, [rbp + {general} + 16]
    mov rsi, [rbp + {general} + 24]
    mov rdi, [rbp + {general} + 32]
    mov r8,  [rbp + {general} + 40]
    mov r9,  [rbp + {general} + 48]
    mov r10, [rbp + {general} + 56]
    mov r11, [rbp + {general} + 64]
    mov r12, [rbp + {general} + 72]
    mov r13, [rbp + {general} + 80]
    mov r14, [rbp + {general} + 88]
    mov r15, [rbp + {general} + 96]
    jmp rax
    .balign 8, 0xcc
rekindle_inject_code_end:

# The end of a slot. Its data lie in the {exit} bytes before.
    .balign 16
rekindle_inject_slot:
    .skip {exit}
80: mov rax, [rip + rekindle_inject_slot + {flags}]
    add al, 0x7f                # sets the overflow flag if al was 1
    sahf
    mov rbp, [rip + rekindle_inject_slot + {rbp_word}]
    mov rax, [rip + rekindle_inject_slot + {rax_word}]
    jmp [rip + rekindle_inject_slot + {rip_word}]
    .org rekindle_inject_slot + {exit_after}, 0xcc
90: mov rax, [rip + rekindle_inject_slot + {flags}]
    add al, 0x7f
    sahf
    mov rbp, [rip + rekindle_inject_slot + {rbp_word}]
    mov rax, -4                 # EINTR
    jmp [rip + rekindle_inject_slot + {rip_after}]
    .balign 8, 0xcc
rekindle_inject_slot_end:
    .popsection
