//! `etcdserverpb.Auth`: users and roles, as etcd's clients and Cilium's `etcdinit` manage them.
//!
//! It owns who may change and see them: administrators, and users themselves what is theirs. Users prove who they are by
//! client certificate; a password is refused by name. etcd-client does not export all messages of this service, so it is
//! served by path.

use std::error::Error as _;
use std::sync::Arc;

use etcd_client::proto::{
    PbAuthRoleAddRequest, PbAuthRoleDeleteRequest, PbAuthRoleGetRequest, PbAuthRoleListResponse,
    PbAuthRoleRevokePermissionRequest, PbAuthUserAddRequest, PbAuthUserChangePasswordRequest, PbAuthUserDeleteRequest,
    PbAuthUserGetRequest, PbAuthUserGetResponse, PbAuthUserGrantRoleRequest, PbAuthUserListResponse,
    PbAuthUserRevokeRoleRequest, PbAuthenticateRequest, PbResponseHeader,
};
use mesh_store_mvcc::KeyRange;
use tonic::{Request, Response, Status};

use super::by_path::{HttpRequest, HttpResponse, method, serve_by_path, unary};
use super::gate::Caller;
use super::{Shared, status};
use crate::auth::{AuthError, Book, Change, Ledger, Permission, RecordError, UpdateError};

mod messages;

use messages::{Done, GrantPermissionRequest, Nothing, RoleGetResponse, StatusResponse};

#[derive(Clone)]
pub(super) struct Auth(pub(super) Arc<Shared>);

serve_by_path!(Auth, "etcdserverpb.Auth");

impl Auth {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let limit = self.0.options.max_request_bytes;
        /// One that makes a [`Change`] of the request of this type.
        macro_rules! change {
            ($request:ty, $make:expr) => {
                unary::<$request, Done, _>(request, limit, |request| self.change(request, $make)).await
            };
        }
        match method(&request) {
            "AuthEnable" => change!(Nothing, |_| Ok(Change::Enable)),
            "AuthDisable" => change!(Nothing, |_| Ok(Change::Disable)),
            "AuthStatus" => unary(request, limit, |request| self.status(request)).await,
            "Authenticate" => unary(request, limit, |request| self.authenticate(request)).await,
            "UserAdd" => change!(PbAuthUserAddRequest, user_add),
            "UserDelete" => change!(PbAuthUserDeleteRequest, |r| Ok(Change::UserDelete { user: r.name })),
            "UserChangePassword" => {
                change!(PbAuthUserChangePasswordRequest, |r| Err(AuthError::Password { user: r.name }))
            }
            "UserGrantRole" => {
                change!(PbAuthUserGrantRoleRequest, |r| Ok(Change::UserGrantRole { user: r.user, role: r.role }))
            }
            "UserRevokeRole" => {
                change!(PbAuthUserRevokeRoleRequest, |r| Ok(Change::UserRevokeRole { user: r.name, role: r.role }))
            }
            "UserGet" => unary(request, limit, |request| self.user_get(request)).await,
            "UserList" => unary(request, limit, |request| self.user_list(request)).await,
            "RoleAdd" => change!(PbAuthRoleAddRequest, |r| Ok(Change::RoleAdd { role: r.name })),
            "RoleDelete" => change!(PbAuthRoleDeleteRequest, |r| Ok(Change::RoleDelete { role: r.role })),
            "RoleGrantPermission" => change!(GrantPermissionRequest, grant_permission),
            "RoleRevokePermission" => change!(PbAuthRoleRevokePermissionRequest, |r| {
                Ok(Change::RoleRevokePermission { role: r.role, range: KeyRange::new(r.key, r.range_end) })
            }),
            "RoleGet" => unary(request, limit, |request| self.role_get(request)).await,
            "RoleList" => unary(request, limit, |request| self.role_list(request)).await,
            other => status::not_served(&format!("etcdserverpb.Auth/{other}")).into_http(),
        }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.0.gate.admit(request.extensions(), &self.0.metrics)
    }

    fn header(&self, ledger: &Ledger) -> PbResponseHeader {
        self.0.header(ledger.revision)
    }

    async fn read(&self) -> Result<Ledger, Status> {
        Ledger::read(&*self.0.store, false).await.map_err(|error| unreadable(&error))
    }

    async fn change<T>(
        &self,
        request: Request<T>,
        make: impl FnOnce(T) -> Result<Change, AuthError>,
    ) -> Result<Response<Done>, Status> {
        let shared = &self.0;
        let caller = self.admit(&request)?;
        caller.administer()?;
        let change = make(request.into_inner()).map_err(|refusal| refused(&refusal))?;
        let ledger = Ledger::update(&*shared.store, &change).await.map_err(|error| match error {
            UpdateError::Refused(refusal) => refused(&refusal),
            UpdateError::Record(error) => unreadable(&error),
            UpdateError::Contended => Status::aborted(format!("isthmus: {error}")),
        })?;
        // So that the same caller's next request finds it so; other replicas hear of it by their watch.
        shared.gate.users().learn(shared.store.cluster_id(), &ledger);
        tracing::info!(by = %caller.label.principal, ?change, "users and roles changed");
        Ok(Response::new(Done { header: Some(self.header(&ledger)) }))
    }

    async fn status(&self, request: Request<Nothing>) -> Result<Response<StatusResponse>, Status> {
        let caller = self.admit(&request)?;
        let ledger = self.read().await?;
        if ledger.book.is_enabled() {
            caller.administer()?;
        }
        Ok(Response::new(StatusResponse {
            header: Some(self.header(&ledger)),
            enabled: ledger.book.is_enabled(),
            auth_revision: ledger.book.revision(),
        }))
    }

    /// A password proves nothing here; what is wrong with it is said as etcd says it.
    async fn authenticate(&self, request: Request<PbAuthenticateRequest>) -> Result<Response<Done>, Status> {
        let caller = self.admit(&request)?;
        let book = self.read().await?.book;
        let is_known = book.roles_of(&request.get_ref().name).is_some();
        Err(refused(&match (book.is_enabled(), is_known && caller.user().is_some()) {
            (false, _) => AuthError::NotEnabled,
            (true, true) => AuthError::NoPasswordUser,
            // Another cluster does not learn who the users are.
            (true, false) => AuthError::AuthenticationFailed,
        }))
    }

    async fn user_get(
        &self,
        request: Request<PbAuthUserGetRequest>,
    ) -> Result<Response<PbAuthUserGetResponse>, Status> {
        let caller = self.admit(&request)?;
        let user = request.into_inner().name;
        if caller.user() != Some(&user) {
            caller.administer()?;
        }
        let ledger = self.read().await?;
        let roles = ledger.book.roles_of(&user).ok_or_else(|| refused(&AuthError::UserNotFound))?;
        let roles = roles.iter().cloned().collect();
        Ok(Response::new(PbAuthUserGetResponse { header: Some(self.header(&ledger)), roles }))
    }

    async fn user_list(&self, request: Request<Nothing>) -> Result<Response<PbAuthUserListResponse>, Status> {
        self.admit(&request)?.administer()?;
        let ledger = self.read().await?;
        let users = ledger.book.users().cloned().collect();
        Ok(Response::new(PbAuthUserListResponse { header: Some(self.header(&ledger)), users }))
    }

    async fn role_get(&self, request: Request<PbAuthRoleGetRequest>) -> Result<Response<RoleGetResponse>, Status> {
        let caller = self.admit(&request)?;
        let role = request.into_inner().role;
        let ledger = self.read().await?;
        if !has_role(&ledger.book, caller.user(), &role) {
            caller.administer()?;
        }
        let permissions = ledger.book.permissions_of(&role).ok_or_else(|| refused(&AuthError::RoleNotFound))?;
        let perm = permissions.into_iter().map(Into::into).collect();
        Ok(Response::new(RoleGetResponse { header: Some(self.header(&ledger)), perm }))
    }

    async fn role_list(&self, request: Request<Nothing>) -> Result<Response<PbAuthRoleListResponse>, Status> {
        self.admit(&request)?.administer()?;
        let ledger = self.read().await?;
        let roles = ledger.book.roles().cloned().collect();
        Ok(Response::new(PbAuthRoleListResponse { header: Some(self.header(&ledger)), roles }))
    }
}

fn user_add(request: PbAuthUserAddRequest) -> Result<Change, AuthError> {
    let user = request.name;
    if user.is_empty() {
        return Err(AuthError::UserEmpty);
    }
    if request.options.is_some_and(|options| options.no_password) {
        Ok(Change::UserAdd { user })
    } else {
        Err(AuthError::Password { user })
    }
}

fn grant_permission(request: GrantPermissionRequest) -> Result<Change, AuthError> {
    let permission = Permission::try_from(request.perm.ok_or(AuthError::PermissionNotGiven)?)?;
    Ok(Change::RoleGrantPermission { role: request.name, permission })
}

fn has_role(book: &Book, user: Option<&str>, role: &str) -> bool {
    user.and_then(|user| book.roles_of(user)).is_some_and(|roles| roles.contains(role))
}

fn refused(refusal: &AuthError) -> Status {
    Status::new(refusal.code(), refusal.to_string())
}

fn unreadable(error: &RecordError) -> Status {
    match error {
        RecordError::Store(error) => status::of(error),
        other => {
            let cause = other.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Status::failed_precondition(format!("isthmus: {other}{cause}"))
        }
    }
}
