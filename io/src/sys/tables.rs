//! An allocator that has large tables lie in large pages.
//!
//! A table of a million sessions takes 130 MB. In pages of 4 KiB these are 33,000 entries of the page table, far more than a processor
//! remembers, so each access to a random session costs a walk of that table besides: in a virtual machine one of two tables, a third of what
//! a packet costs then. In pages of 2 MiB they are 65.
//!
//! The kernel gives large pages to whom it was asked to give them (Documentation/admin-guide/mm/transhuge.rst: `enabled` is "madvise" on most
//! systems; where it is "never", nothing changes). It is asked for what lies [`HUGE`] behind the beginning of an allocation of [`LARGE`]
//! at least: who reserves much and uses little is given no more than before.
use std::alloc::{GlobalAlloc, Layout, System};

/// Octets of a large page, on the processors that this is for.
const HUGE: usize = 2 << 20;
/// Octets of an allocation that is taken for a table.
const LARGE: usize = 8 << 20;

/// See the module.
#[derive(Debug)]
pub struct Tables;

/// The part of an allocation that is to lie in large pages: its beginning, and its octets.
#[inline]
fn part(start: usize, octets: usize) -> Option<(usize, usize)> {
    if octets < LARGE {
        return None;
    }
    let end = start.checked_add(octets)? & !(HUGE - 1);
    let begin = start.checked_next_multiple_of(HUGE)?.checked_add(HUGE)?;
    (begin < end).then(|| (begin, end - begin))
}

/// Asks for large pages for an allocation that was just made, if it is a table, and gives it back.
#[inline]
fn advised(table: *mut u8, octets: usize) -> *mut u8 {
    if !table.is_null()
        && let Some((begin, octets)) = part(table.addr(), octets)
    {
        // SAFETY: the range is part of the allocation; the advice changes nothing of its contents.
        let _ = unsafe { libc::madvise(table.with_addr(begin).cast(), octets, libc::MADV_HUGEPAGE) };
    }
    table
}

// SAFETY: all memory is the system allocator's, with the layouts that it is asked for.
unsafe impl GlobalAlloc for Tables {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system allocator's.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, table: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(table, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, table: *mut u8, layout: Layout, octets: usize) -> *mut u8 {
        // SAFETY: as above.
        advised(unsafe { System.realloc(table, layout, octets) }, octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn only_what_lies_behind_the_beginning_of_a_table() {
        assert_eq!(part(HUGE, LARGE), Some((2 * HUGE, 6 * MIB)));
        assert_eq!(part(HUGE + 16, LARGE), Some((3 * HUGE, 4 * MIB)), "whole large pages");
        assert_eq!(part(HUGE, LARGE - 1), None);
        assert_eq!(part(usize::MAX - 16, LARGE), None);
    }

    #[test]
    fn a_table_keeps_what_it_holds() {
        let layout = Layout::from_size_align(LARGE, 64).unwrap();
        // SAFETY: the layouts are those of the allocation, and what is read was written or given as zero.
        unsafe {
            let table = Tables.alloc_zeroed(layout);
            assert!(!table.is_null());
            assert_eq!(table.add(LARGE - 1).read(), 0);
            table.add(LARGE - 1).write(7);
            let table = Tables.realloc(table, layout, 2 * LARGE);
            assert_eq!(table.add(LARGE - 1).read(), 7);
            Tables.dealloc(table, Layout::from_size_align(2 * LARGE, 64).unwrap());
        }
    }
}
