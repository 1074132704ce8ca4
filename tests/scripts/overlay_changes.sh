# What overlays show, change and refuse. On a tmpfs in a mount namespace of its own, so that nothing is left.
[ -n "${OVERLAY_TEST:-}" ] || OVERLAY_TEST=1 exec unshare -m --propagation private bash -c "$BASH_EXECUTION_STRING"
exec 2>&1
D=$(mktemp -d); mount -t tmpfs t "$D" || exit 1; cd "$D"; trap 'cd /; umount -l "$D"; rmdir "$D"' EXIT
# A tree: kinds, modes, owners, sizes of files.
ls_() { (cd "$1" && find . -printf '%P %y %m %U:%G %s %l\n' | sed 's/ \(d [0-9]* [0-9:]*\) [0-9]*/ \1/' | sort); }
up() { echo "upper:"; (cd u && find . -printf '%P %y %m\n' | sort); }
x() { "$@" 2>&1 | sed "s,$D,D,g" | head -1; }
mkdir -p a b c u w m
echo a1 >a/f; echo b1 >b/f; echo b2 >b/g; echo c3 >c/h; mkdir -p a/d b/d c/d c/only/deep; echo 1 >a/d/1; echo 2 >b/d/2; echo 3 >c/d/3; echo x >c/only/deep/x
ln -s f a/sym; mkfifo b/fifo; mknod b/gone c 0 0; echo hidden > c/gone; mkdir b/op c/op; touch b/op/new c/op/old; python3 -c 'import os;os.setxattr("b/op","trusted.overlay.opaque",b"y")'
chmod 4750 c/h; chown 12:34 c/h; touch -d @1000000000 c/h; python3 -c 'import os;os.setxattr("c/h","user.k",b"v")'
echo hl > b/l1; ln b/l1 b/l2
mount -t overlay ov -o lowerdir=a:b:c,upperdir=u,workdir=w m || exit 1
ls_ m; stat -c '%h %s' m/d m/only m/f; cat m/f m/g m/h; ls m/op m/d
echo "== copy up"; echo more >> m/h; stat -c '%a %u:%g' m/h; cat m/h; cat c/h; up
chmod 711 m/only/deep; stat -c '%a' c/only/deep m/only/deep; touch -d @999999999 m/only/deep/x; up
i=$(stat -c %i m/g); echo >> m/g; [ $i = $(stat -c %i m/g) ] && echo same ino; stat -c %d m/g m/f m/d | uniq | wc -l
chmod 600 m/fifo; stat -c %F:%a m/fifo; (echo thru > m/fifo) & cat m/fifo; wait
ln -sfn target m/sym; readlink m/sym; readlink a/sym
echo "== hard links"; stat -c '%h' m/l1; ln m/l1 m/l3; stat -c %h m/l1 m/l3; echo y >> m/l3; cat m/l1 m/l2; up
echo "== whiteouts"; rm m/f; ls m; stat -c '%F %t %T' u/f; rm -r m/d; stat -c '%F' u/d; mkdir m/d; ls -A m/d; up; echo back > m/f; cat m/f; stat -c %F u/f
rmdir m/only; rm m/only/deep/x; ls m/only/deep; rmdir m/only/deep m/only; ls m; up
x mknod m/zz c 0 0; x mknod m/zz c 1 3; stat -c '%F %t %T' m/zz
echo "== rename"; mkdir -p m/e; x mv m/op m/op2; ls m/op2; x python3 -c 'import os;os.rename("m/d","m/dd")'
umount m; rm -rf u w; mkdir u w; mount -t overlay ov -o lowerdir=a:b:c,upperdir=u,workdir=w m
for t in d only op; do python3 - $t <<'P'
import os,sys,errno
n=sys.argv[1]
try: os.rename("m/"+n,"m/"+n+".moved"); print(n,"ok")
except OSError as e: print(n,errno.errorcode[e.errno])
P
done
mkdir m/fresh; touch m/fresh/f; mv m/fresh m/d/fresh; ls m/d/fresh; mv m/d/fresh m/fresh; mv m/g m/d/g; ls m m/d; up
mv m/h m/f; cat m/f; ls m
python3 - <<'P'
import ctypes,os,errno
import sys
l=ctypes.CDLL(None,use_errno=True)
def r(a,b,f):
    x=l.renameat2(-100,a.encode(),-100,b.encode(),f); return "ok" if x==0 else errno.errorcode[ctypes.get_errno()]
print(r("m/f","m/l1",1), r("m/f","m/l1",2), r("m/f","m/nn",4), r("m/f","m/d",2), r("m/fresh","m/f",2))
print(sorted(os.listdir("m")), open("m/l1").read())
# whiteout renames on the plain file system
os.makedirs("p/q"); open("p/x","w").write("1"); 
print(r("p/x","p/q/y",4), os.stat("p/x").st_rdev, oct(os.stat("p/x").st_mode), os.listdir("p/q"))
print(r("p/q","p/z",4), oct(os.stat("p/q").st_mode), r("p/z","p/q",4), oct(os.stat("p/q").st_mode), r("p/z","p/q",5), r("p/q","p/z",6), r("p/q","p/new",5), sorted(os.listdir("p")))
print(os.stat("p").st_nlink, os.stat("p/q").st_nlink)
P
umount m; rm -rf u w; mkdir u w
echo "== redirect_dir"; mount -t overlay ov -o lowerdir=a:b:c,upperdir=u,workdir=w,redirect_dir=on m
mv m/d m/moved; ls m/moved; python3 -c 'import os;print(os.getxattr("u/moved","trusted.overlay.redirect"))'; mkdir m/sub; mv m/moved m/sub/again; ls m/sub/again; python3 -c 'import os;print(os.getxattr("u/sub/again","trusted.overlay.redirect"))'; mkdir m/d; ls m/d; echo z > m/sub/again/2; up
umount m; mount -t overlay ov -o lowerdir=a:b:c,upperdir=u,workdir=w m; ls m m/sub/again m/d; cat m/sub/again/2
umount m; mkdir v w2; mount -t overlay ov -o lowerdir=u:a:b:c,upperdir=v,workdir=w2 m; ls m m/sub/again m/d; rm -r m/sub/again; ls m/sub; mkdir m/sub/again; ls m/sub/again; umount m
mount -t overlay ov -o lowerdir=v:u:a:b:c m; ls m m/sub m/d; touch m/x; rm m/l1; grep -o 'overlay ov r[ow]' /proc/self/mountinfo; x mount -o remount,rw m; touch m/x; umount m
rm -rf u v w w2; mkdir u w
echo "== xattrs"; mount -t overlay ov -o lowerdir=a:b:c,upperdir=u,workdir=w m
python3 - <<'P'
import os,errno
def t(f,*a):
    try: return f(*a)
    except OSError as e: return errno.errorcode[e.errno]
print(t(os.listxattr,"m/h"), t(os.getxattr,"m/h","user.k"), t(os.setxattr,"m/h","user.k2",b"w"), sorted(t(os.listxattr,"m/h")), t(os.listxattr,"c/h"))
print(t(os.listxattr,"m/op"), t(os.getxattr,"m/op","trusted.overlay.opaque"), t(os.setxattr,"m/op","trusted.overlay.opaque",b"n"), t(os.getxattr,"m/op","trusted.overlay.opaque"), t(os.listxattr,"m/op"))
print(t(os.getxattr,"u/op","trusted.overlay.overlay.opaque"), t(os.removexattr,"m/op","trusted.overlay.opaque"), t(os.listxattr,"m/op"), t(os.removexattr,"m/op","trusted.overlay.opaque"))
P
echo "== misc"; stat -f -c '%T' m; df --output=fstype m | tail -1; cd m; echo tmp > .hid; ls -A | head -3; cd ..; touch m/t; flock m/t true && echo lock; cp /bin/true m/true; m/true && echo runs; python3 -c '
import mmap,os
f=open("m/h","r+b"); m=mmap.mmap(f.fileno(),0); m[0:2]=b"ZZ"; m.flush(); print(open("m/h").read(), open("u/h").read())
d=os.open("m",os.O_RDONLY); t=os.open("m",os.O_TMPFILE|os.O_RDWR); os.write(t,b"tf"); print(os.fstat(t).st_nlink, sorted(os.listdir("u")))'
umount m; ls m w/work
echo "== users"; mkdir au uu wu mu; touch au/r; echo s > au/secret; chmod 600 au/secret; chown 1000:1000 uu wu mu; chmod 755 $D
setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urm sh -c 'mount -t overlay o -o lowerdir=au,upperdir=uu,workdir=wu,userxattr mu; grep -o "overlay o .*" /proc/self/mountinfo | sed s/,uuid=on//; echo n > mu/n; cat mu/secret; chmod 666 mu/secret; rm mu/r; mv mu/secret mu/s2; mkdir mu/dd; ls -n mu | tail -n +2 | cut -d" " -f1,3,4; mount -t overlay o -o lowerdir=au:a,upperdir=uu,workdir=wu mu && rm mu/r; mkdir mu/r; mkdir mu/q; ls mu' 2>&1
ls -n uu | cut -d' ' -f1,3,4
