# The same images as `cargo xtask images` makes, for who has Docker: `docker build --target mesh-apiserver .` and so on.
# Not run by the project's tests, which have no Docker: what they build and check are the archives of `cargo xtask images`.

FROM rust:1.95-bookworm AS build
# Headers and compilers as `cargo xtask bootstrap` names them.
RUN apt-get update && apt-get install -y --no-install-recommends \
      protobuf-compiler libprotobuf-dev rustc-web rust-web-src \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo xtask images && mkdir /out && cd /out \
    && for image in mesh-apiserver node-agent meshctl; do \
         mkdir $image && tar -xf /src/target/images/$image.tar -C $image \
         && layer=$(grep -o '"Layers":\["[^"]*' $image/manifest.json | cut -d'"' -f4) \
         && mkdir $image/root && tar -xf $image/$layer -C $image/root; done

FROM scratch AS node-agent
COPY --from=build /out/node-agent/root/ /
ENV PATH=/usr/bin
EXPOSE 9974/tcp
ENTRYPOINT ["/usr/bin/node-agent"]

FROM scratch AS meshctl
COPY --from=build /out/meshctl/root/ /
ENV PATH=/usr/bin
USER 65532:65532
ENTRYPOINT ["/usr/bin/meshctl"]

FROM scratch AS mesh-apiserver
COPY --from=build /out/mesh-apiserver/root/ /
ENV PATH=/usr/bin
USER 65532:65532
EXPOSE 2379/tcp 2380/tcp 2382/tcp 9972/tcp
ENTRYPOINT ["/usr/bin/mesh-apiserver"]
