use super::*;

fn list(entries: &[(Who, u16)]) -> Acl {
    Acl(entries.iter().map(|&(who, perm)| Entry { who, perm }).collect())
}

#[test]
fn lists_are_valid_in_their_order_and_with_a_mask_where_it_is_needed() {
    use Who::{Group, Mask, Other, Owner, OwningGroup, User};
    let valid = |entries: &[(Who, u16)]| list(entries).is_valid();
    assert!(valid(&[(Owner, 7), (OwningGroup, 5), (Other, 0)]));
    assert!(valid(&[(Owner, 7), (User(1), 6), (OwningGroup, 5), (Group(2), 1), (Mask, 7), (Other, 0)]));
    assert!(valid(&[(Owner, 7), (OwningGroup, 5), (Mask, 4), (Other, 0)]));
    assert!(!valid(&[(Owner, 7), (User(1), 6), (OwningGroup, 5), (Other, 0)]), "no mask");
    assert!(!valid(&[(OwningGroup, 5), (Owner, 7), (Other, 0)]), "order");
    assert!(!valid(&[(Owner, 8), (OwningGroup, 5), (Other, 0)]), "permissions");
    assert!(!valid(&[(Owner, 7), (OwningGroup, 5)]), "others");
    assert!(!valid(&[(Owner, 7), (Owner, 7), (OwningGroup, 5), (Other, 0)]), "twice");
}

#[test]
fn a_stored_list_is_read_back() {
    let acl =
        list(&[(Who::Owner, 7), (Who::User(5), 6), (Who::OwningGroup, 5), (Who::Mask, 7), (Who::Other, 0)]);
    assert_eq!(Acl::stored(&acl.store()), Some(acl));
    assert_eq!(Acl::parse(&[2, 0, 0, 0], Some), Ok(None));
    assert_eq!(Acl::parse(&[1, 0, 0, 0], Some), Err(Errno::EOPNOTSUPP));
    assert_eq!(Acl::parse(&[2, 0, 0, 0, 1], Some), Err(Errno::EINVAL));
    assert_eq!(Acl::parse(&[2, 0, 0], Some), Err(Errno::EINVAL));
}

#[test]
fn the_mode_is_owner_mask_and_others() {
    let masked =
        list(&[(Who::Owner, 7), (Who::User(5), 6), (Who::OwningGroup, 5), (Who::Mask, 2), (Who::Other, 1)]);
    assert_eq!(masked.as_mode(), (0o721, false));
    assert_eq!(list(&[(Who::Owner, 6), (Who::OwningGroup, 4), (Who::Other, 0)]).as_mode(), (0o640, true));
    let changed = masked.with_mode(0o640);
    assert_eq!(changed.find(Who::Mask), Some(4));
    assert_eq!((changed.find(Who::OwningGroup), changed.find(Who::User(5))), (Some(5), Some(6)));
}

#[test]
fn a_new_file_gets_no_more_than_it_asks_for() {
    let default =
        list(&[(Who::Owner, 7), (Who::User(5), 7), (Who::OwningGroup, 5), (Who::Mask, 7), (Who::Other, 5)]);
    let (access, mode) = default.for_new(0o664);
    assert_eq!(mode, 0o664);
    assert_eq!(
        (access.find(Who::Owner), access.find(Who::Mask), access.find(Who::Other)),
        (Some(6), Some(6), Some(4))
    );
    assert_eq!(access.find(Who::User(5)), Some(7));
}
