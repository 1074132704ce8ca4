# Access control lists on a tmpfs, and on an overlay of two; in a mount namespace of its own.
[ -n "${ACL_TEST:-}" ] || ACL_TEST=1 exec unshare -m --propagation private bash -c "$BASH_EXECUTION_STRING"
exec 2>&1
D=$(mktemp -d); mount -t tmpfs -o mode=755 t "$D" || exit 1; cd "$D"; trap 'cd /; umount -l "$D"; rmdir "$D"' EXIT
as() { local id=$1; shift; setpriv --reuid "$id" --regid "$id" --clear-groups "$@"; }
try() { local id=$1; shift; as "$id" "$@" >/dev/null 2>&1 && echo "$id may $*" || echo "$id may not $*"; }
all() {
    echo "== what a list gives"
    umask 022; echo text > f; chmod 640 f; setfacl -m u:1001:rw,u:1002:r,g:1003:r f; getfacl -n f; stat -c %a f; ls -l f | cut -c 1-11
    for id in 1001 1002 1003 1004; do try $id cat f; try $id sh -c 'echo x >> f'; done
    setfacl -m m::r f; stat -c %a f; try 1001 sh -c 'echo x >> f'; try 1001 cat f; chmod 600 f; getfacl -n f; try 1001 cat f
    chmod 660 f; try 1001 sh -c 'echo x >> f'; setfacl -m u:1001:0 f; try 1001 cat f; chmod o+r f; try 1001 cat f; try 1005 cat f
    setfacl -m g::0,g:1003:0 f; try 1003 cat f; setfacl -b f; getfacl -n f; stat -c %a f
    python3 -c 'import os; print(os.listxattr("f"))'; setfacl -m u::rw,g::r,o::- f; stat -c %a f; python3 -c 'import os; print(os.listxattr("f"))'
    echo "== what directories hand down"
    mkdir -m 770 d; setfacl -m u:1001:rwx -d -m u:1001:rwx,g:1003:rx,o::rx d; getfacl -n d; umask 077
    echo 1 > d/f; mkdir d/sub; ln -s f d/link; mkfifo d/fifo; getfacl -n d/f d/sub d/fifo; stat -c '%a %n' d/*
    umask 022; as 1001 sh -c 'echo mine > d/mine; mkdir d/sub/deep; getfacl -n d/mine d/sub/deep; rm d/f'; try 1002 ls d; chmod 600 d/mine
    getfacl -n d/mine; cp -a d e; getfacl -n e e/mine; setfacl -k d; touch d/plain; getfacl -n d d/plain; mv d/mine .; getfacl -n mine
    python3 -c 'import os; fd = os.open("e", os.O_TMPFILE | os.O_RDWR, 0o666); print(oct(os.fstat(fd).st_mode), os.listxattr(fd))'
    echo "== errors"
    python3 - <<'P'
import os, errno, struct
def lst(*e, version=2): return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *x) for x in e)
def t(f, *a, **k):
    try: return f(*a, **k)
    except OSError as e: return errno.errorcode[e.errno]
A, B = "system.posix_acl_access", "system.posix_acl_default"
U, G, O, M = (1, 6, -1 & 0xffffffff), (4, 4, 0), (32, 0, 0), (16, 7, 0)
os.mkdir("x"); open("y", "w"); os.symlink("y", "z"); os.chmod("y", 0o2755)
for v in [b"", b"\2\0\0", lst(), lst(U), lst(U, G, O), lst(G, U, O), lst(U, G, O, version=1), lst(U, (2, 7, 5), G, O), lst(U, (2, 7, 5), G, M, O),
          lst(U, (2, 8, 5), G, M, O), lst(U, (3, 7, 5), G, M, O), lst(U, (2, 7, 0xffffffff), G, M, O), lst(U, G, M, O), lst(U, G, O) + b"\0"]:
    print(v.hex(), t(os.setxattr, "y", A, v), t(os.setxattr, "x", B, v), t(os.setxattr, "y", B, v), oct(os.stat("y").st_mode), t(os.listxattr, "y"))
print(t(os.getxattr, "y", A), t(os.getxattr, "y", B), t(os.getxattr, "x", A), t(os.removexattr, "y", A), t(os.removexattr, "y", A), t(os.removexattr, "x", B))
print(t(os.setxattr, "z", A, lst(U, G, O), follow_symlinks=False), t(os.getxattr, "z", A, follow_symlinks=False), t(os.removexattr, "z", A, follow_symlinks=False))
print(t(os.setxattr, "y", A, lst(U, G, O), os.XATTR_CREATE), t(os.setxattr, "y", A, lst(U, G, O), os.XATTR_REPLACE), t(os.setxattr, "y", "system.other", b"x"))
print(t(os.getxattr, "/proc/self/status", A), t(os.setxattr, "/proc/self/status", A, lst(U, G, O)), t(os.getxattr, "/dev/null", A))
P
    echo 1 > own; chown 1001 own; chmod 2755 own; as 1001 setfacl -m u:1002:rwx own; stat -c %a own; as 1002 setfacl -m u:1002:rwx own 2>&1 | sed 's/.*: //'
    as 1001 unshare -Ur getfacl -n own; as 1001 unshare -Ur setfacl -m u:0:r own; getfacl -n own
}
mkdir p; cd p; all; cd ..
mkdir l u w m; cp -a p/e l/low; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m; cd m; echo "== an overlay"; all
getfacl -n low/mine; touch low/mine low/new; getfacl -n low/mine low/new ../u/low ../u/low/mine ../u/low/new
