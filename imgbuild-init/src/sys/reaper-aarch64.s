.pushsection .rodata.imgbuild_reaper,"a",@progbits
.p2align 2
.hidden imgbuild_reaper
.hidden imgbuild_reaper_end
.globl imgbuild_reaper
.globl imgbuild_reaper_end
imgbuild_reaper:
    mov x8, #215
    mov x0, #0
    mov x1, x22
    svc #0
    mov x8, #215
    mov x0, x23
    mov x1, x24
    svc #0
    mov x8, #57
    mov x0, x25
    svc #0
20:
    mov x8, #260
    mov x0, #-1
    mov x1, x21
    mov x2, #0
    mov x3, #0
    svc #0
    cmp w0, w20
    b.eq 30f
    tbz w0, #31, 20b
    cmn w0, #4
    b.eq 20b
    mov x0, #1
    b 50f
30:
    ldr w1, [x21]
    ands w2, w1, #127
    b.eq 40f
    add w0, w2, #128
    b 50f
40:
    ubfx w0, w1, #8, #8
50:
    mov x8, #94
    svc #0
    brk #0
imgbuild_reaper_end:
.popsection
