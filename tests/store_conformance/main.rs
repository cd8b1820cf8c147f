//! One suite over every `ObjectStore`: what a caller may rely on, whoever answers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod bodies;
mod copies;
mod costs;
mod faults;
mod listings;
mod lost_answers;
mod multipart;
mod objects;
mod subject;

/// Makes a test per function and store.
macro_rules! suite {
    ($($module:ident: $($name:ident)*;)*) => {
        mod memory {
            $(mod $module {
                $(#[tokio::test]
                async fn $name() {
                    crate::$module::$name(&crate::subject::memory()).await;
                })*
            })*
        }

        mod s3 {
            $(mod $module {
                $(#[tokio::test]
                async fn $name() {
                    let config = pailfs::store::s3::S3Config::default();
                    crate::$module::$name(&crate::subject::s3(config).await.subject).await;
                })*
            })*
        }

        mod s3_with_checksums {
            $(mod $module {
                $(#[tokio::test]
                async fn $name() {
                    use pailfs::store::s3::{ChecksumAlgorithm, Checksums, S3Config};
                    let checksums = Checksums::Always(ChecksumAlgorithm::Crc64Nvme);
                    let config = S3Config { checksums, ..S3Config::default() };
                    crate::$module::$name(&crate::subject::s3(config).await.subject).await;
                })*
            })*
        }
    };
}

suite! {
    objects:
        a_put_is_what_head_and_get_tell
        puts_obey_their_condition
        deletes_obey_their_condition
        batches_delete_what_they_can
        properties_and_tags_survive
        tags_are_replaced
        limits_are_refused
        odd_keys_are_keys
        a_missing_bucket_is_told
        buckets_are_listed;
    bodies:
        ranges_are_cut_at_the_end
        gets_obey_their_condition
        large_bodies_arrive_whole
        empty_objects_have_no_range;
    copies:
        a_kept_copy_has_everything
        a_replaced_copy_keeps_its_tags
        copies_obey_their_conditions
        an_object_is_copied_onto_itself
        class_and_encryption_survive_a_copy
        odd_keys_are_copied;
    listings:
        keys_come_in_byte_order
        pages_join_without_gap_or_overlap
        prefixes_are_grouped
        a_listing_starts_after_a_key
        a_listing_starts_inside_a_group
        odd_keys_are_listed
        a_listing_names_the_version_of_head
        nothing_listed_is_no_error;
    multipart:
        parts_become_an_object
        a_part_is_replaced_by_its_number
        completions_obey_their_condition
        an_unknown_upload_is_gone
        uploads_are_listed_until_aborted
        ranges_of_objects_become_parts
        wrong_parts_are_refused
        properties_and_tags_come_from_the_beginning;
}
