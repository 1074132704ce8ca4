// The vDSO as an ELF object: what dynamic linkers and runtimes with a linker of their own (Go's) find in it.
#include "check.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <time.h>

static const char *const NAMES[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu"};

typedef int clock_call(clockid_t, struct timespec *);

// As dlvsym(3) does it.
static void versions_are_found(void)
{
    void *vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
    CHECK(vdso);
    for (unsigned i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        CHECK(dlvsym(vdso, NAMES[i], "LINUX_2.6"));
        CHECK(!dlvsym(vdso, NAMES[i], "LINUX_9.9"));
    }
    CHECK(!dlvsym(vdso, "__vdso_no_such_function", "LINUX_2.6"));
    clock_call *call = (clock_call *)dlvsym(vdso, "__vdso_clock_gettime", "LINUX_2.6");
    struct timespec before, now;
    CHECK(!clock_gettime(CLOCK_MONOTONIC, &before));
    CHECK(!call(CLOCK_MONOTONIC, &now));
    CHECK(now.tv_sec > before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec >= before.tv_nsec));
    CHECK(now.tv_sec - before.tv_sec < 60);
}

// As runtimes do it that read the dynamic section themselves, without asking whether there are definitions.
static void definitions_are_a_list(void)
{
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR);
    CHECK(image);
    const ElfW(Ehdr) *header = (const void *)image;
    const ElfW(Phdr) *segments = (const void *)(image + header->e_phoff);
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(image + segments[i].p_offset);
    CHECK(dynamic);
    const char *strings = NULL;
    const ElfW(Verdef) *definition = NULL;
    unsigned expected = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_STRTAB)
            strings = image + dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_VERDEF)
            definition = (const void *)(image + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_VERDEFNUM)
            expected = dynamic->d_un.d_val;
    }
    CHECK(strings && definition && expected == 2);
    const ElfW(Verdaux) *name = (const void *)((const char *)definition + definition->vd_aux);
    CHECK(definition->vd_flags == VER_FLG_BASE && !strcmp(strings + name->vda_name, "linux-vdso.so.1"));
    CHECK(definition->vd_next != 0);
    definition = (const void *)((const char *)definition + definition->vd_next);
    name = (const void *)((const char *)definition + definition->vd_aux);
    CHECK(definition->vd_hash == 0x3ae75f6 && !strcmp(strings + name->vda_name, "LINUX_2.6"));
    CHECK(definition->vd_next == 0);
}

int main(void)
{
    PART(versions_are_found);
    PART(definitions_are_a_list);
}
