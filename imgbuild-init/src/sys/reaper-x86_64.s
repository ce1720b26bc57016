.pushsection .rodata.imgbuild_reaper,"a",@progbits
.hidden imgbuild_reaper
.hidden imgbuild_reaper_end
.globl imgbuild_reaper
.globl imgbuild_reaper_end
imgbuild_reaper:
    mov eax, 11
    xor edi, edi
    mov rsi, r14
    syscall
    mov eax, 11
    mov rdi, r15
    mov rsi, r8
    syscall
    mov eax, 3
    mov rdi, r9
    syscall
20:
    mov eax, 61
    mov rdi, -1
    mov rsi, r13
    xor edx, edx
    xor r10d, r10d
    syscall
    cmp eax, r12d
    je 30f
    test eax, eax
    jns 20b
    cmp eax, -4
    je 20b
    mov edi, 1
    jmp 50f
30:
    mov edi, [r13]
    mov eax, edi
    and eax, 127
    jz 40f
    lea edi, [rax + 128]
    jmp 50f
40:
    shr edi, 8
    and edi, 255
50:
    mov eax, 231
    syscall
    ud2
imgbuild_reaper_end:
.popsection
