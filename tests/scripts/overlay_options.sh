# What overlays are mounted with and not; on a tmpfs in a mount namespace of its own.
[ -n "${OVERLAY_TEST:-}" ] || OVERLAY_TEST=1 exec unshare -m --propagation private bash -c "$BASH_EXECUTION_STRING"
exec 2>&1
D=$(mktemp -d); mount -t tmpfs t "$D" || exit 1; cd "$D"; trap 'cd /; umount -l "$D"; rmdir "$D"' EXIT
mkdir -p a b c u/uw w m d a/sub b/sub other r 'x:y' 'sp ace'; touch f; mount -t tmpfs t other; mount -t tmpfs -o ro t r
t() {
    echo "-- $*"
    mount -t overlay overlay -o "$1" m 2>&1 | head -1 | sed 's/.*: //'
    if mountpoint -q m; then
        grep "/m " /proc/self/mountinfo | sed 's/.* - //; s/,uuid=on//'
        umount m
    fi
}
both=lowerdir=a,upperdir=u,workdir=w
t lowerdir=a; t lowerdir=a:b; t lowerdir=a:b,upperdir=u; t upperdir=u,workdir=w; t $both; t lowerdir=a,workdir=w
t lowerdir=nope,upperdir=u,workdir=w; t lowerdir=a:nope,upperdir=u,workdir=w; t lowerdir=f,upperdir=u,workdir=w
t lowerdir=a,upperdir=f,workdir=w; t lowerdir=a,upperdir=u,workdir=f; t lowerdir=a,upperdir=u,workdir=nope
t lowerdir=a,upperdir=u,workdir=u; t lowerdir=a,upperdir=u,workdir=u/uw; t lowerdir=a,upperdir=u/uw,workdir=u
t lowerdir=a:a/sub,upperdir=u,workdir=w; t lowerdir=a:a,upperdir=u,workdir=w; t lowerdir=u,upperdir=u,workdir=w
t lowerdir=u/uw,upperdir=u,workdir=w; t lowerdir=w,upperdir=u,workdir=w; t lowerdir=a,upperdir=u,workdir=other
t lowerdir=a,upperdir=r,workdir=r; t lowerdir=.,upperdir=u,workdir=w; t lowerdir=other:a,upperdir=u,workdir=w
t lowerdir=,upperdir=u,workdir=w; t lowerdir=a:,upperdir=u,workdir=w; t lowerdir=:a,upperdir=u,workdir=w
t $both,bogus; t $both,bogus=1; t $both,redirect_dir=on; t $both,redirect_dir=maybe; t $both,redirect_dir=nofollow
t $both,index=off; t $both,xino=off; t $both,userxattr; t $both,userxattr,redirect_dir=on; t $both,default_permissions
t $both,ro; t ro,lowerdir=a:b; t lowerdir=a,lowerdir=b,upperdir=u,workdir=w; t 'lowerdir=x\:y:a,upperdir=u,workdir=w'
t 'lowerdir=sp ace:a,upperdir=u,workdir=w'; t ""
ls -A w; stat -c '%a %F' w/work
echo "-- an overlay in an overlay"
mount -t overlay overlay -o $both m; mkdir -p m/l m/u m/w d/u d/w n o; echo 1 > m/l/x
mount -t overlay overlay -o lowerdir=m/l:b n && cat n/x
mount -t overlay overlay -o lowerdir=n:c,upperdir=d/u,workdir=d/w o 2>&1 | grep -c 'wrong fs'
umount n m
echo "-- others do not keep it, and it keeps no others"
mkdir h; mount -t tmpfs t h; mkdir h/l h/u h/w; echo kept > h/l/x; mount -t overlay overlay -o lowerdir=h/l,upperdir=h/u,workdir=h/w m
umount h; ls h; cat m/x; echo more >> m/x; cat m/x; sleep 100 < m/x & umount m 2>&1 | grep -c busy; kill $!; wait; umount m
