//! Implementation of `courses.v1.CoursesService`. Calls are authorized before they get here.

use base::{
    error::{ErrorReply, Reason},
    validate::InvalidFields,
};
use db::Db;
use tonic::{Code, Request, Response, Status};

use self::proto::{
    Course, DeleteCourseRequest, DeleteCourseResponse, ErrorReason, GetCourseRequest, GetCourseResponse,
    ListCoursesRequest, ListCoursesResponse, courses_service_server::CoursesService,
};
use crate::catalogue::{self, CourseRow};

/// The code that `build.rs` generates from the proto.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
pub(crate) mod proto {
    tonic::include_proto!("courses.v1");
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/courses.binpb"));
}

/// Serves the catalogue.
#[derive(Clone, Debug)]
pub(crate) struct CoursesRpc {
    pub(crate) db: Db,
}

#[tonic::async_trait]
impl CoursesService for CoursesRpc {
    async fn list_courses(&self, _: Request<ListCoursesRequest>) -> Result<Response<ListCoursesResponse>, Status> {
        let mut conn = self.db.read().await?;
        let courses = catalogue::courses_list(&mut conn).await?;
        Ok(Response::new(ListCoursesResponse {
            courses: courses.into_iter().map(message).collect(),
        }))
    }

    async fn get_course(&self, request: Request<GetCourseRequest>) -> Result<Response<GetCourseResponse>, Status> {
        let id = required(request.into_inner().course_id)?;
        let mut conn = self.db.read().await?;
        let course = catalogue::course_by_id(&mut conn, &id).await?;
        let course = course.ok_or_else(|| not_found(id))?;
        Ok(Response::new(GetCourseResponse {
            course: Some(message(course)),
        }))
    }

    async fn delete_course(
        &self,
        request: Request<DeleteCourseRequest>,
    ) -> Result<Response<DeleteCourseResponse>, Status> {
        let id = required(request.into_inner().course_id)?;
        let mut conn = self.db.write().await?;
        if !catalogue::course_delete(&mut conn, &id).await? {
            return Err(not_found(id).into());
        }
        Ok(Response::new(DeleteCourseResponse {}))
    }
}

fn required(course_id: String) -> Result<String, InvalidFields> {
    if course_id.is_empty() {
        return Err(InvalidFields::one("course_id", "is required"));
    }
    Ok(course_id)
}

fn not_found(course_id: String) -> ErrorReply {
    ErrorReply::new(Code::NotFound, ErrorReason::CourseNotFound, "there is no such course")
        .with_resource("course", course_id)
}

impl Reason for ErrorReason {
    const DOMAIN: &'static str = "courses.v1";

    fn enum_name(self) -> &'static str {
        self.as_str_name()
    }
}

fn message(row: CourseRow) -> Course {
    Course {
        course_id: row.course_id,
        title: row.title,
        duration_minutes: row.duration_minutes,
    }
}
